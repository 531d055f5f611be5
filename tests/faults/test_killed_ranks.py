"""Trainings of one and of two processes (gloo) that are really killed: resumed, they end as if nothing had happened."""

import json

import pytest
from tests.faults.test_damaged_checkpoint import DAMAGE
from tests.training.conftest import make_trial
from tests.training.ranks import RankDiedError, as_ranks, kill_me
from tests.training.twins import assert_same, last_state

from transvae_platform.data.stream.batches import TrainStream
from transvae_platform.study.journal import Journal, read_journal
from transvae_platform.training import loop
from transvae_platform.training.loop import train_vae

pytestmark = pytest.mark.fault
# 96 crops and batches of 8: step 12 begins the second epoch
CHANGES = {"recipe__steps": 14, "recipe__schedule": "cosine", "recipe__clip_norm": 1.0}
KILLS = {"at the edge of an epoch": [(-1, 12)], "twice, rank 0 first": [(0, 6), (-1, 13)]}


def train_rank(world, work, samples, folder, kill=None):
    """On every rank: train, or be killed before a step; what every step reads is written down."""
    step, read = loop.train_step, TrainStream.batch

    def killed(weights, *rest):
        if kill is not None and (world.rank, weights.step) == (kill[0] % world.size, kill[1]):
            kill_me()
        return step(weights, *rest)

    def note(self, step):
        batch = read(self, step)
        with (folder / f"ids-{world.size}-{world.rank}.jsonl").open("a") as file:
            file.write(json.dumps([step, batch.ids.tolist()]) + "\n")
        return batch

    loop.train_step, TrainStream.batch = killed, note
    journal = Journal(folder / "journal.jsonl") if world.rank == 0 else None
    return train_vae(work, samples, folder, journal, world, {})


def batches(folder, size):
    """The global batch of every step that all of `size` ranks have read, by step."""
    told = []
    for rank in range(size):
        lines = (folder / f"ids-{size}-{rank}.jsonl").read_text().splitlines()
        pairs = [json.loads(line) for line in lines]
        found = dict(pairs)
        assert all(found[step] == ids for step, ids in pairs), "a step read other samples when it was taken again"
        told.append(found)
    return {step: [number for found in told for number in found[step]] for step in set.intersection(*map(set, told))}


def curve(folder):
    return {
        record["step"]: record["metrics"]
        for record in read_journal(folder / "journal.jsonl")
        if record["event"] == "step"
    }


def resumed(folder):
    return [record["resumed_from"] for record in read_journal(folder / "journal.jsonl") if record["event"] == "started"]


@pytest.fixture(scope="module")
def twins(home, samples, tmp_path_factory):
    """The folders of uninterrupted trainings by their number of processes."""
    folders = {size: tmp_path_factory.mktemp(f"twin-{size}") for size in (1, 2)}
    for size, folder in folders.items():
        as_ranks(size, folder, train_rank, make_trial(home, **CHANGES), samples, folder)
    return folders


@pytest.mark.parametrize("kills", KILLS.values(), ids=KILLS)
@pytest.mark.parametrize("size", [1, 2])
def test_killed_ranks_end_as_their_twin(trial, samples, tmp_path, twins, size, kills):
    work = trial(**CHANGES)
    for kill in kills:
        with pytest.raises(RankDiedError):
            as_ranks(size, tmp_path, train_rank, work, samples, tmp_path, kill)
    as_ranks(size, tmp_path, train_rank, work, samples, tmp_path)
    assert resumed(tmp_path)[0] == 0
    assert all(0 <= step - start <= 8 for (_, step), start in zip(kills, resumed(tmp_path)[1:], strict=True))
    assert_same(last_state(tmp_path), last_state(twins[size]))
    assert curve(tmp_path) == curve(twins[size])
    assert batches(tmp_path, size) == batches(twins[size], size)


@pytest.mark.parametrize("damage", ["cut to half", "flipped bit in the state", "shard missing", "folder missing"])
def test_damage_between_two_starts_of_two_ranks(trial, samples, tmp_path, twins, damage):
    work = trial(**CHANGES)
    with pytest.raises(RankDiedError):
        as_ranks(2, tmp_path, train_rank, work, samples, tmp_path, (1, 11))
    newest = sorted((tmp_path / "checkpoints").glob("step_*"))[-1]
    DAMAGE[damage](newest)
    as_ranks(2, tmp_path, train_rank, work, samples, tmp_path)
    assert resumed(tmp_path)[1] < int(newest.name.removeprefix("step_"))
    assert_same(last_state(tmp_path), last_state(twins[2]))


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_resumed_on_another_number_of_ranks(trial, samples, tmp_path, twins, before, after):
    work = trial(**CHANGES)
    with pytest.raises(RankDiedError):
        as_ranks(before, tmp_path, train_rank, work, samples, tmp_path, (-1, 10))
    as_ranks(after, tmp_path, train_rank, work, samples, tmp_path)
    whole = batches(twins[1], 1)
    assert whole == batches(twins[2], 2)
    for size in (before, after):
        assert all(whole[step] == ids for step, ids in batches(tmp_path, size).items())
    ours, theirs = curve(tmp_path), curve(twins[after])
    assert ours.keys() == theirs.keys()
    # bitwise equality is not promised: sums of other parts round differently
    assert ours[14]["train/loss"] == pytest.approx(theirs[14]["train/loss"], abs=1e-5)
