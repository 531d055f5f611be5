"""SIGKILL at every stage boundary from S-VAE over PS-VAE to text-to-image, then the same command: the same weights."""

import json

import pytest
from tests.faults.test_killed_generators import commands, kill_and_compare, last, trials_of

from transvae_platform.data.listing.bundled import list_bundled

pytestmark = pytest.mark.fault

FEW = {"every": 2, "images": 4, "pictures": 2}
SPEC = {
    "study": "chain",
    "question": "Does it survive?",
    "expected": {"outcome": "It does.", "source": "assumption"},
    "grid": {"ladder": "micro", "code": "f8d16", "families": {"s-vae": ["T"], "ps-vae": ["T"]}},
    "data": {
        "source": "bundled", "resolution": 32, "holdout": ["coffee"],
        "view": {"kind": "crops", "per_photograph": 4, "scales": [0.25]},
    },
    "recipe": {
        "steps": 8, "batch_size": 4, "learning_rate": 1e-3, "warmup_steps": 2,
        "semantic": {"network": "random", "lpips": None, "pixel_stage": {"steps": 4}},
    },
    "evaluation": FEW,
    "downstream": {
        "vaes": ["ps-vae-*"], "generators": ["micro-S/2"],
        "text": {"encoder": "hashed-16", "guidance": 2.0, "noise": {"sampled": 3}},
        "recipe": {"steps": 6, "batch_size": 4, "learning_rate": 1e-3}, "evaluation": {**FEW},
    },
}  # fmt: skip
BOUNDARIES = {
    "the s-vae has finished": ("finished", "s", 1),
    "in stage 1": ("checkpoint", "ps", 1),
    "at the edge of the stages": ("checkpoint", "ps", 2),
    "in stage 2": ("checkpoint", "ps", 3),
    "the ps-vae has finished": ("finished", "ps", 1),
    "it is registered": ("registered", "chain", 2),
    "its latents are made": ("latents", "chain", 1),
    "the generator begins": ("started", "t2i", 1),
    "in the generator": ("checkpoint", "t2i", 2),
    "the generator has finished": ("finished", "t2i", 1),
}


@pytest.fixture
def chain(tmp_path, _played, monkeypatch):
    """`commands` of this study, with captions for every photograph, or those that are given."""

    def make(captions=None):
        names = list_bundled().table["name"].to_pylist()
        captions = captions or {name: f"a photograph of {name}" for name in names}
        lines = [json.dumps({"file_name": name, "caption": caption}) for name, caption in captions.items()]
        (tmp_path / "captions.jsonl").write_text("\n".join(lines))
        spec = {**SPEC, "data": {**SPEC["data"], "captions": "captions.jsonl"}}
        return commands(spec, tmp_path, monkeypatch)

    return make


def test_killed_at_every_stage_boundary_it_comes_to_the_same_weights(chain):
    command = chain()
    whole, code = command("whole")
    assert code == 0
    assert sorted(trials_of(whole)) == ["ps-vae-T-s0", "s-vae-T-s0", "t2i-micro-S-2-on-ps-vae-T-s0"]
    assert {last(trial)["event"] for trial in trials_of(whole).values()} == {"finished"}
    kill_and_compare(command, whole, BOUNDARIES, latents=1)


def test_a_missing_caption_is_refused_before_anything_trains(chain):
    folder, code = chain({"rocket.jpg": "a rocket"})("home")
    assert code == 2
    assert not list(folder.glob("trials/*"))
    (said,) = (folder.parents[1]).glob("said-*.err")
    assert "downstream.text: data: sample" in said.read_text()
    assert "has no caption" in said.read_text()
