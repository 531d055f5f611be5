"""Weights that two processes hold in parts (FSDP2): the training is that of two which hold all of them (DDP)."""

import pytest
import torch
from tests.training.conftest import make_trial
from tests.training.ranks import RankDiedError, as_ranks, kill_me
from tests.training.test_loop import assert_same, last_state
from tests.training.test_stages import state

from transvae_platform.study.journal import Journal, read_journal
from transvae_platform.training import loop
from transvae_platform.training.loop import train_vae
from transvae_platform.training.sharding import local

LOSSES = {
    "kl": 1e-6,
    "lpips": {"network": "random"},
    "vf": {"network": "random", "features": "vit_tiny_patch16_224"},
    "gan": {"layers": 1, "start": 1, "alone": 1},
}
# Adam turns the rounding of a gradient near 0 into a whole step: with this rate it stays small, while gradients are
# compared by the moments. The norm is above the bound from the first step on.
ALL = {
    "recipe__steps": 4, "recipe__warmup_steps": 0, "recipe__learning_rate": 1e-5, "recipe__clip_norm": 0.05,
    "recipe__losses": LOSSES, "recipe__decoder_stage": {"steps": 1}, "evaluation__every": 9, "evaluation__images": 2,
    "resources__accumulate": 2,
}  # fmt: skip
KILLED = {"recipe__steps": 12, "recipe__clip_norm": 1.0, "recipe__decoder_stage": {"steps": 5}}


def work_of(home, sharding, **changes):
    return make_trial(home, resources__workers=2, resources__sharding=sharding, **changes)


def train_rank(world, work, samples, folder, kill=None):
    """On every rank: train, or be killed before a step; returns how many numbers of the weights it held."""
    step, held = loop.train_step, []

    def killed(weights, *rest):
        if kill == (world.rank, weights.step):
            kill_me()
        held[:] = [
            sum(local(parameter).numel() for parameter in part.parameters())
            for part in (weights.network, weights.averaged)
        ]
        return step(weights, *rest)

    loop.train_step = killed
    journal = Journal(folder / "journal.jsonl") if world.rank == 0 else None
    train_vae(work, samples, folder, journal, world, {})
    return held


def curve(folder):
    steps = [record for record in read_journal(folder / "journal.jsonl") if record["event"] == "step"]
    return {record["step"]: record["metrics"] for record in steps}


def assert_close(one, other, rel):
    assert one.keys() == other.keys()
    for key, value in other.items():
        difference = (one[key] - value).double().square().mean().sqrt()
        assert difference <= rel * value.double().square().mean().sqrt() + 1e-6, key  # of 4 steps of 1e-5


@pytest.fixture
def both(home, samples, tmp_path):
    """Train with all weights in each rank, then with parts; returns the two folders and what each rank held."""

    def train(**changes):
        held = {}
        for sharding in ("ddp", "fsdp"):
            work = work_of(home, sharding, **changes)
            held[sharding] = as_ranks(2, tmp_path / sharding, train_rank, work, samples, tmp_path / sharding)
        return tmp_path / "fsdp", tmp_path / "ddp", held

    return train


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("vit", {}),
        pytest.param("transvae", {"recipe__gradient_checkpointing": True}, marks=pytest.mark.slow),
        pytest.param("cnn", {}, marks=pytest.mark.slow),
        pytest.param("swin", {}, marks=pytest.mark.slow),
    ],
)
def test_all_losses_in_two_stages_with_parts_are_those_with_all(both, family, changes):
    parts, every, held = both(grid__families={family: ["T"]}, **ALL, **changes)
    for step, metrics in curve(every).items():
        assert metrics["train/gradient_norm"] > 0.05
        assert curve(parts)[step] == pytest.approx(metrics, rel=1e-3, abs=2e-5)
    assert_close(state(parts), state(every), 2e-3)
    for (network, average), whole in zip(held["fsdp"], held["ddp"], strict=True):
        assert network / whole[0] == pytest.approx(0.5, abs=0.01)
        assert average / whole[1] == pytest.approx(0.5, abs=0.01)


def test_bf16_rounds_as_autocast_does(both):
    parts, every, _ = both(recipe__precision="bf16", recipe__steps=4, evaluation__every=9)
    for step, metrics in curve(every).items():
        assert curve(parts)[step]["train/loss"] == pytest.approx(metrics["train/loss"], rel=1e-2)
    tensors = state(parts)
    assert {value.dtype for key, value in tensors.items() if key.startswith(("model/", "average/"))} == {torch.float32}


@pytest.mark.parametrize("killed_at", [6, 10], ids=["in stage 1", "in stage 2"])
def test_killed_and_resumed_equals_its_twin(home, samples, tmp_path, killed_at):
    work = work_of(home, "fsdp", **KILLED)
    as_ranks(2, tmp_path / "twin", train_rank, work, samples, tmp_path / "twin")
    with pytest.raises(RankDiedError):
        as_ranks(2, tmp_path / "run", train_rank, work, samples, tmp_path / "run", (1, killed_at))
    as_ranks(2, tmp_path / "run", train_rank, work, samples, tmp_path / "run")
    assert_same(last_state(tmp_path / "run"), last_state(tmp_path / "twin"))
    assert curve(tmp_path / "run") == curve(tmp_path / "twin")


@pytest.mark.parametrize(
    ("before", "after"), [((2, "fsdp"), (1, "fsdp")), ((1, "ddp"), (2, "fsdp")), ((3, "fsdp"), (2, "fsdp"))]
)
def test_resumed_on_another_number_of_ranks_or_unsharded(home, samples, tmp_path, before, after):
    changes = {**KILLED, "recipe__batch_size": 12}
    size, sharding = before
    with pytest.raises(RankDiedError):
        as_ranks(size, tmp_path, train_rank, work_of(home, sharding, **changes), samples, tmp_path, (size - 1, 9))
    (size, sharding), twin = after, tmp_path / "twin"
    for folder in (tmp_path, twin):
        as_ranks(size, folder, train_rank, work_of(home, sharding, **changes), samples, folder)
    starts = [record for record in read_journal(tmp_path / "journal.jsonl") if record["event"] == "started"]
    assert [start["resumed_from"] for start in starts] in ([0, 4], [0, 8])
    ours, theirs = curve(tmp_path), curve(twin)
    assert ours.keys() == theirs.keys()
    assert ours[12]["train/loss"] == pytest.approx(theirs[12]["train/loss"], abs=1e-4)
