"""Text-to-image generators in the loop of all trials: both objectives, dropped captions, resuming, what is refused."""

import dataclasses
import json

import pytest
import torch
from tests.training.conftest import SPEC
from tests.training.twins import KilledError, assert_same, kill_at, last_state

from transvae import Autoencoder, create_model
from transvae.generation import TextDiT
from transvae.generation.text import open_text_encoder
from transvae_platform.data.latents.extract import extract_latents, plan_extraction
from transvae_platform.data.listing.bundled import list_bundled
from transvae_platform.data.listing.captions import with_captions
from transvae_platform.data.making.ingest import ingest
from transvae_platform.data.making.work import run_locally
from transvae_platform.data.sets.samples import open_data
from transvae_platform.data.stream.latents import LatentStream, latent_space
from transvae_platform.errors import UserError
from transvae_platform.evaluation.generation import draw_images
from transvae_platform.study.grid import build_grid
from transvae_platform.study.journal import Journal, read_journal
from transvae_platform.study.spec import StudySpec
from transvae_platform.training.checkpoint import CheckpointStore
from transvae_platform.training.loop import train
from transvae_platform.training.text_generating import TextGenerating
from transvae_platform.world import World

DOWNSTREAM = {
    "generators": ["micro-S/2"], "sampler": {"times": 4},
    "text": {"encoder": "hashed-16", "guidance": 2.0, "noise": {"sampled": 4}},
    "recipe": {"steps": 8, "batch_size": 8, "learning_rate": 1e-3, "ema_decay": 0.9, "label_dropout": 0.3},
    "evaluation": {"every": 4, "log_every": 1, "images": 12, "pictures": 3},
}  # fmt: skip
ENCODER = open_text_encoder("hashed-16")


@pytest.fixture(scope="module")
def captioned(tmp_path_factory):
    """Latents of captioned crops of the bundled photographs, training and held out, and what made them."""
    folder = tmp_path_factory.mktemp("captioned")
    listing = list_bundled()
    lines = [{"file_name": name, "caption": f"a photograph of {name}"} for name in listing.table["name"].to_pylist()]
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    listing = with_captions(listing, folder / "captions.jsonl")
    made = ingest(listing, StudySpec.model_validate(SPEC).data, folder, run_locally)
    torch.manual_seed(7)
    create_model("vit-micro-T/f8d8", resolution=32).save_pretrained(folder / "vae")
    images = str(folder / "data" / made.fingerprint)
    plan = plan_extraction(made, images, folder / "vae", model_name="test")
    latents = extract_latents(plan, folder, run_locally)
    return open_data(str(folder / "data" / latents.fingerprint), folder, 10**9), folder / "vae"


@pytest.fixture
def task(captioned):
    def make(encoder=ENCODER, **text):
        down = {**DOWNSTREAM, "text": {**DOWNSTREAM["text"], **text}}
        if text.get("objective") == "velocity":
            del down["text"]["noise"]
        trial = build_grid(StudySpec.model_validate({**SPEC, "downstream": down}), "f" * 16)[-1]
        (train_latents, held_out), vae = captioned
        decode = Autoencoder.from_pretrained(vae).decode
        return TextGenerating(trial, World(), latent_space(train_latents), decode, encoder, held_out)

    return make


def run(task, latents, folder):
    journal = Journal(folder / "journal.jsonl")
    try:
        return train(task, latents, folder, journal, {})
    finally:
        journal.close()


def events(folder, event):
    return [record for record in read_journal(folder / "journal.jsonl") if record["event"] == event]


@pytest.mark.parametrize(("objective", "first"), [("noise", 1.0), ("velocity", 3.0)])
def test_either_objective_trains_and_its_folder_says_with_what(task, captioned, tmp_path, objective, first):
    metrics = run(task(objective=objective), captioned[0], tmp_path)
    losses = [record["metrics"]["train/loss"] for record in events(tmp_path, "step")]
    assert losses[0] == pytest.approx(first, abs=0.3)
    assert ("val/cosine" in metrics) == (objective == "velocity")
    assert metrics["val/loss"] == pytest.approx(metrics["val/mse"] + metrics.get("val/cosine", 0.0))
    assert len(list((tmp_path / "pictures").iterdir())) == 2
    with CheckpointStore(tmp_path / "checkpoints", keep=9).newest_good() as found:
        kept = TextDiT.from_pretrained(found[1] / "ema")
    assert (kept.conditions.name, dict(kept.conditions.encoder)) == ("hashed-16", ENCODER.identity)
    assert kept.conditions.objective == objective
    assert (kept.conditions.schedule is None) == (objective == "velocity")
    assert kept.latents == latent_space(captioned[0][0])


@pytest.mark.parametrize("killed_in", [(1,), (3, 6)])
def test_killed_and_resumed_equals_uninterrupted(task, captioned, tmp_path, monkeypatch, killed_in):
    run(task(), captioned[0], tmp_path / "whole")
    kill_at(monkeypatch, killed_in, LatentStream)
    for _ in killed_in:
        with pytest.raises(KilledError):
            run(task(), captioned[0], tmp_path / "run")
    run(task(), captioned[0], tmp_path / "run")
    assert_same(last_state(tmp_path / "run"), last_state(tmp_path / "whole"))


def test_the_null_text_learns_from_the_dropped_captions_alone(task, captioned):
    one = task()
    batch = one.stream(captioned[0][0]).batch(0)
    assert all(caption.startswith("a photograph of") for caption in batch.captions)
    for share, learns in ((0.0, False), (1.0, True)):
        one.model.zero_grad()
        for layer in (one.model.out, one.model.modulation, *(block.modulation for block in one.model.blocks)):
            torch.nn.init.normal_(layer.weight, std=0.1)  # zeros let nothing through
        piece = one.on_path(batch, 0, 0, torch.full((len(batch.ids),), bool(share)))
        one.backward(one.network, piece, 0, 1)
        assert bool(one.model.null_E.grad.any()) == learns
    dropped = torch.cat([one.inputs(one.stream(captioned[0][0]).batch(step), step)[-1] for step in range(20)])
    assert 0.15 < dropped.float().mean() < 0.45  # 160 coins of 0.3


def test_a_sample_is_drawn_for_its_caption(task):
    one = task()
    for layer in (one.model.out, one.model.modulation, *(block.modulation for block in one.model.blocks)):
        torch.nn.init.normal_(layer.weight, std=0.3)
    drawer = one.drawn_with(one.model)
    assert len(set(drawer.captions)) > 1
    sampler = one.trial.generator.sampler.model_copy(update={"batch": 4})

    def first(**changes):
        return next(draw_images(dataclasses.replace(drawer, **changes), one._decode, sampler, torch.arange(4).numpy(),
                                World()))[1]  # fmt: skip

    assert torch.equal(first(), first())
    one_caption, two_captions = first(captions=["a cat"]), first(captions=["a cat", "many stars"])
    differs = [not torch.equal(a, b) for a, b in zip(one_caption, two_captions, strict=True)]
    assert differs == [False, True, False, True]
    assert not torch.equal(first(), first(spec=drawer.spec.model_copy(update={"guidance": 1.0})))


def test_another_text_encoder_and_missing_captions_are_refused_by_name(
    task, captioned, latents_without_captions, tmp_path
):
    with pytest.raises(UserError, match="has 8 channels, the network reads 16 - give another folder"):
        task(encoder=open_text_encoder("hashed-8"))
    run(task(), captioned[0], tmp_path)
    other = open_text_encoder("hashed-16")
    other.identity = {**other.identity, "seed": 1}
    with pytest.raises(UserError, match=r"its checkpoint was trained with the text encoder .*'seed': 0"):
        run(task(encoder=other), captioned[0], tmp_path)
    stream = LatentStream(
        latents_without_captions, task().trial.sampling, batch_size=4, seed=0, labelled=False, captioned=True
    )
    with pytest.raises(UserError, match="has no caption - every image"):
        stream.batch(0)


@pytest.fixture
def latents_without_captions(home, captioned, tmp_path):
    from transvae_platform.data.sets.catalogue import list_data_sets

    (made,) = list_data_sets(home)
    plan = plan_extraction(made.manifest, made.location, captioned[1], model_name="test")
    return open_data(
        str(tmp_path / "data" / extract_latents(plan, tmp_path, run_locally).fingerprint), tmp_path, 10**9
    )[0]
