"""S-VAE, PS-VAE and RAE in the loop of all trials: what learns in which phase, and that a resumed run is the same."""

import pytest
import torch
from tests.training.test_stages import changed, state
from tests.training.twins import KilledError, assert_same, kill_at, last_state

from transvae import Autoencoder
from transvae_platform.study.journal import Journal, read_journal
from transvae_platform.study.trial import Initial
from transvae_platform.training.checkpoint import CheckpointStore
from transvae_platform.training.loop import train_vae
from transvae_platform.training.manifest import sha256_of
from transvae_platform.training.representing import Representing
from transvae_platform.world import World

TRUNK = "model/encoder.trunk.vit"
SEMANTIC = {"network": "random", "lpips": {"weight": 0.1, "network": "random"}}
STAGES = {**SEMANTIC, "pixel_stage": {"steps": 4}}


def keys(family="ps-vae", code="f8d16", semantic=STAGES, **more):
    return {
        "grid__families": {family: ["T"]}, "grid__code": code, "recipe__semantic": semantic, "recipe__steps": 8,
        "recipe__batch_size": 4, "recipe__learning_rate": 1e-3, "evaluation__keep_checkpoints": 9, **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def run(trial, samples, tmp_path_factory):
    """The folder of a trial that nothing interrupted."""

    def make(**changes):
        folder = tmp_path_factory.mktemp("run")
        journal = Journal(folder / "journal.jsonl")
        train_vae(trial(**changes), samples, folder, journal, World(), {})
        journal.close()
        return folder

    return make


@pytest.fixture(scope="module")
def ps_vae(run):
    return run(**keys())


def events(folder, event):
    return [record for record in read_journal(folder / "journal.jsonl") if record["event"] == event]


def test_the_network_and_the_pixels_learn_in_the_second_stage_only(ps_vae):
    edge, last = (state(ps_vae, step) for step in (4, 8))
    begun = {record["step"]: record["metrics"] for record in events(ps_vae, "step")}
    assert {"train/semantic_random", "train/cosine_random", "train/kl"} <= begun[4].keys()
    assert "train/mse" not in begun[4]
    assert {"train/l1", "train/mse", "train/lpips_random"} <= begun[5].keys()
    assert changed(edge, last, TRUNK)
    assert changed(edge, last, "model/decoder.pixels")
    assert not any("decoder.pixels" in key for key in edge if key.startswith("optimizer"))


def test_in_the_first_stage_the_network_stays_the_frozen_one(run, trial, samples):
    folder = run(**keys(semantic={**SEMANTIC, "pixel_stage": {"steps": 1}}, evaluation__every=2))
    before, after = state(folder, 2), state(folder, 6)
    for part in (TRUNK, f"average/{TRUNK.removeprefix('model/')}", "model/decoder.pixels"):
        assert not changed(before, after, part)
    assert changed(before, after, "model/encoder.projector")
    assert changed(before, after, "model/decoder.semantic")


def test_its_own_features_are_those_of_the_twin_while_it_is_frozen(trial, samples):
    task = Representing(trial(**keys(grid__seeds=[3])), World())  # the twin is drawn from 0
    task.companions(torch.zeros(()))
    task.enter_stage(False)
    x_B3HW = torch.rand(2, 3, 32, 32) * 2 - 1
    made = task.network(x_B3HW, torch.zeros(2, 16, 4, 4))
    # the twin runs without gradients, where some processors take kernels that round in another order
    torch.testing.assert_close(made.target, task._target(x_B3HW), rtol=0, atol=1e-5)
    assert made.reconstruction is None
    task.enter_stage(True)
    assert task.network(x_B3HW, torch.zeros(2, 16, 4, 4)).target is None


def test_an_s_vae_is_judged_and_ranked_by_its_features(run):
    folder = run(**keys("s-vae", semantic=SEMANTIC))
    validated = events(folder, "validated")
    assert {key for record in validated for key in record["metrics"]} == {"val/semantic_random", "val/cosine_random"}
    best = min(validated, key=lambda record: record["metrics"]["val/semantic_random"])["step"]
    assert events(folder, "checkpoint")[-1]["best_step"] == best
    assert validated[-1]["metrics"]["val/semantic_random"] < validated[0]["metrics"]["val/semantic_random"]
    assert len(list((folder / "pictures").iterdir())) == 2
    (frozen,) = events(folder, "frozen")
    assert [(one["network"], one["weights"]) for one in frozen["networks"]] == [("vit_micro_T_patch8", "random")]


def test_a_rae_decodes_the_features_themselves(run):
    folder = run(**keys("rae", "f8d32", SEMANTIC))
    last = events(folder, "validated")[-1]["metrics"]
    assert {"val/psnr", "val/l1"} <= last.keys()
    assert "val/semantic_random" not in last
    before, after = state(folder, 4), state(folder, 8)
    assert not changed(before, after, TRUNK)
    assert changed(before, after, "model/decoder.pixels")


@pytest.mark.parametrize("killed_in", [(1,), (4,), (3, 6)])
def test_killed_and_resumed_equals_uninterrupted(ps_vae, trial, samples, tmp_path, monkeypatch, killed_in):
    kill_at(monkeypatch, killed_in)
    for _ in killed_in:
        with pytest.raises(KilledError):
            train_vae(trial(**keys()), samples, tmp_path, None, World(), {})
    train_vae(trial(**keys()), samples, tmp_path, None, World(), {})
    assert_same(last_state(tmp_path), last_state(ps_vae))


def test_pieces_of_a_batch_make_the_same_steps(ps_vae, run):
    pieces = run(**keys(resources__accumulate=2))
    one, other = (events(folder, "validated")[-1]["metrics"] for folder in (ps_vae, pieces))
    assert one["val/psnr"] == pytest.approx(other["val/psnr"], rel=1e-3)


def test_a_ps_vae_starts_from_a_registered_s_vae(run, trial, samples):
    s_vae = run(**keys("s-vae", semantic=SEMANTIC))
    with CheckpointStore(s_vae / "checkpoints", keep=9).newest_good() as (_, folder):
        weights = sha256_of(folder / "ema" / "model.safetensors")
        initial = Initial(folder=str(folder / "ema"), weights_sha256=weights)
        begun = Representing(trial(**keys()).model_copy(update={"initial": initial}), World()).model.state_dict()
        given = Autoencoder.from_pretrained(folder / "ema").state_dict()
    assert all(torch.equal(begun[key], value) for key, value in given.items())
    assert any("decoder.pixels" in key for key in begun)
