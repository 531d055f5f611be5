"""Generators in the loop that trains autoencoders: the same resuming, on one process and on two."""

import dataclasses

import pytest
import torch
from tests.training.conftest import SPEC
from tests.training.ranks import RankDiedError, as_ranks, kill_me
from tests.training.twins import KilledError, assert_same, kill_at, last_state

from transvae import Autoencoder, create_model
from transvae.generation import LightningDiT
from transvae_platform.data.latents.extract import extract_latents, plan_extraction
from transvae_platform.data.making.work import run_locally
from transvae_platform.data.sets.catalogue import list_data_sets
from transvae_platform.data.sets.samples import open_data
from transvae_platform.data.stream.latents import LatentStream, latent_space
from transvae_platform.errors import UserError
from transvae_platform.study.grid import build_grid
from transvae_platform.study.journal import Journal, read_journal
from transvae_platform.study.spec import StudySpec
from transvae_platform.training import loop
from transvae_platform.training.checkpoint import CheckpointStore
from transvae_platform.training.generating import Generating
from transvae_platform.training.loop import train
from transvae_platform.training.weights import TrialWeights
from transvae_platform.world import World

DOWNSTREAM = {
    "generators": ["micro-S/2"], "classes": 1, "sampler": {"times": 4},
    "recipe": {"steps": 14, "batch_size": 8, "learning_rate": 1e-3, "warmup_steps": 2, "ema_decay": 0.9},
    "evaluation": {"every": 4, "log_every": 1, "images": 12, "pictures": 3},
}  # fmt: skip


@pytest.fixture(scope="session")
def vae(tmp_path_factory):
    """A folder with an autoencoder that nobody trained."""
    folder = tmp_path_factory.mktemp("vae")
    torch.manual_seed(7)
    create_model("vit-micro-T/f8d8", resolution=32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def latents(home, vae, tmp_path_factory):
    """Training and held-out latents of `SPEC`'s crops, in a home of their own."""
    (made,) = list_data_sets(home)
    own = tmp_path_factory.mktemp("latents")
    manifest = extract_latents(plan_extraction(made.manifest, made.location, vae, model_name="test"), own, run_locally)
    return open_data(str(own / "data" / manifest.fingerprint), own, 10**9)


@pytest.fixture
def generator(home):
    """The generator's trial of a study with changes such as `recipe__steps=3`, and with other resources."""

    def make(workers=1, **changes):
        down = {key: dict(value) if isinstance(value, dict) else value for key, value in DOWNSTREAM.items()}
        for path, value in changes.items():
            *parents, key = path.split("__")
            part = down
            for parent in parents:
                part = part.setdefault(parent, {})
            part[key] = value
        down["resources"] = {"workers": workers}
        (made,) = list_data_sets(home)
        return build_grid(StudySpec.model_validate({**SPEC, "downstream": down}), made.manifest.fingerprint)[-1]

    return make


def run(world, trial, latents, vae, folder, kill=None):
    """Train on every rank; `kill` is (rank, step) that ends its process."""
    step = loop.train_step

    def killed(weights, *rest):
        if kill == (world.rank, weights.step):
            kill_me()
        return step(weights, *rest)

    loop.train_step = killed
    journal = Journal(folder / "journal.jsonl") if world.rank == 0 else None
    decode = Autoencoder.from_pretrained(vae).decode
    try:
        return train(Generating(trial, world, latent_space(latents[0]), decode), latents, folder, journal, {})
    finally:
        loop.train_step = step


def events(folder, event):
    return [record for record in read_journal(folder / "journal.jsonl") if record["event"] == event]


def test_it_learns_and_begins_at_three(generator, latents, vae, tmp_path):
    metrics = run(World(), generator(recipe__steps=80, evaluation__every=40), latents, vae, tmp_path)
    losses = [record["metrics"]["train/loss"] for record in events(tmp_path, "step")]
    assert losses[0] == pytest.approx(3.0, abs=0.25)  # of 8 latents; LightningDiT: 3.00 of many
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    assert metrics["val/loss"] == pytest.approx(metrics["val/mse"] + metrics["val/cosine"])
    best = min(events(tmp_path, "validated"), key=lambda record: record["metrics"]["val/loss"])["step"]
    assert events(tmp_path, "checkpoint")[-1]["best_step"] == best
    assert len(list((tmp_path / "pictures").iterdir())) == 2


def test_the_published_folder_says_which_latents_these_are(generator, latents, vae, tmp_path):
    run(World(), generator(recipe__steps=4), latents, vae, tmp_path)
    with CheckpointStore(tmp_path / "checkpoints", keep=9).newest_good() as found:
        kept = LightningDiT.from_pretrained(found[1] / "ema")
    assert kept.latents == latent_space(latents[0])
    assert kept.latents.tokenizer["name"] == "test"


@pytest.mark.parametrize("killed_in", [(1,), (6,), (12,), (5, 10)])
def test_killed_and_resumed_equals_uninterrupted(generator, latents, vae, tmp_path, monkeypatch, killed_in):
    trial = generator(recipe__clip_norm=1.0, recipe__gradient_checkpointing=True)
    run(World(), trial, latents, vae, tmp_path / "whole")
    kill_at(monkeypatch, killed_in, LatentStream)
    for _ in killed_in:
        with pytest.raises(KilledError):
            run(World(), trial, latents, vae, tmp_path / "run")
    run(World(), trial, latents, vae, tmp_path / "run")
    assert_same(last_state(tmp_path / "run"), last_state(tmp_path / "whole"))


def test_two_processes_are_killed_and_go_on_to_the_same_weights(generator, latents, vae, tmp_path):
    trial = generator(workers=2)
    rest = (trial, latents, vae)
    whole = as_ranks(2, tmp_path / "whole", run, *rest, tmp_path / "whole")
    with pytest.raises(RankDiedError):
        as_ranks(2, tmp_path / "run", run, *rest, tmp_path / "run", (1, 9))
    assert as_ranks(2, tmp_path / "run", run, *rest, tmp_path / "run") == whole
    assert_same(last_state(tmp_path / "run"), last_state(tmp_path / "whole"))
    alone = run(World(), trial, latents, vae, tmp_path / "alone")
    assert whole[0] == whole[1]
    assert whole[0]["val/loss"] == pytest.approx(alone["val/loss"], rel=1e-3)


def test_what_a_step_draws_belongs_to_seed_sample_and_step(generator, latents, vae):
    trial = generator(recipe__label_dropout=0.5, classes=1)
    space, decode = latent_space(latents[0]), Autoencoder.from_pretrained(vae).decode
    one, other = (Generating(trial, World(), space, decode) for _ in range(2))
    stream = one.stream(latents[0])
    first, again = one.inputs(stream.batch(5), 5), other.inputs(stream.batch(5), 5)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    later = one.inputs(stream.batch(5), 6)
    assert not any(torch.equal(a, b) for a, b in zip(first[:3], later[:3], strict=True))
    labels = torch.cat([one.inputs(stream.batch(step), step)[3] for step in range(40)])
    assert 0.35 < (labels == 1).float().mean() < 0.65  # 320 coins: 0.5 +- 0.03


def test_latents_of_another_autoencoder_are_refused_by_name(generator, latents, vae, tmp_path):
    trial, space = generator(), latent_space(latents[0])
    run(World(), generator(recipe__steps=14), latents, vae, tmp_path)
    decode = Autoencoder.from_pretrained(vae).decode
    tokenizer = {**space.tokenizer, "weights_sha256": "f" * 64}
    for change in ({"tokenizer": tokenizer}, {"std": tuple(2 * value for value in space.std)}):
        other = Generating(trial, World(), dataclasses.replace(space, **change), decode)
        with pytest.raises(UserError, match=r"its checkpoint was trained on the latents .* of test"):
            train(other, latents, tmp_path, None, {})
    for change, told in (({"resolution": 64}, "resolution 32, .* has 64"), ({"content": "mean"}, "content sample")):
        with pytest.raises(UserError, match=told):
            Generating(trial, World(), dataclasses.replace(space, **change), decode)


def test_a_label_beyond_the_classes_is_refused_by_name(generator, latents, vae):
    trial = generator()
    task = Generating(trial, World(), latent_space(latents[0]), Autoencoder.from_pretrained(vae).decode)
    batch = dataclasses.replace(task.stream(latents[0]).batch(0), labels=torch.full((8,), 1))
    with pytest.raises(UserError, match=r"downstream\.classes is 1, but a sample has the label 1"):
        task.inputs(batch, 0)


def test_initial_weights_and_average_are_of_the_seed(generator, latents, vae):
    space, decode = latent_space(latents[0]), Autoencoder.from_pretrained(vae).decode
    one, other = (TrialWeights(Generating(generator(), World(), space, decode)) for _ in range(2))
    for key, value in one.model.state_dict().items():
        assert torch.equal(value, other.averaged.state_dict()[key])


def test_half_precision_trains_with_full_precision_weights(generator, latents, vae, tmp_path):
    run(World(), generator(recipe__precision="bf16", recipe__steps=4), latents, vae, tmp_path)
    _, tensors, _ = last_state(tmp_path)
    weights = [value for key, value in tensors.items() if key.startswith("model/")]
    assert {tensor.dtype for tensor in weights} == {torch.float32}
