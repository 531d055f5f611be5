"""A rewind leads where its step numbers say, whichever checkpoints there are: the end is that of the twin."""

import pytest
import torch
from tests.training.poison import NAN, Poison, assert_same, kept, newest
from tests.training.ranks import as_ranks
from tests.training.twins import KilledError

from transvae_platform.study.journal import Journal
from transvae_platform.training import loop, preemption
from transvae_platform.training.autoencoding import Autoencoding
from transvae_platform.training.checkpoint import CheckpointStore
from transvae_platform.training.course import Course
from transvae_platform.training.folder import Folder
from transvae_platform.training.saver import Saver
from transvae_platform.training.weights import TrialWeights
from transvae_platform.world import Notice, World

NOTICE = Notice(nodes=("node-a",), deadline=1000.0)


def bad(*steps, rewinds=0):
    return {(step, rewinds): NAN for step in steps}


def noticed_at(poison, *steps):
    """A world that has a notice of its own at each of these (step, rewinds)."""
    notices = {at: Notice((f"node-{number}",), 1000.0) for number, at in enumerate(steps)}
    return World(notice=lambda: notices.get(poison.at))


def full_at(monkeypatch, *steps):
    """No room for the checkpoints of these steps, once each."""
    left, commit = list(steps), Folder.commit

    def full(self, draft, files):
        step = int(draft.name.rpartition("_")[2])
        if draft.name.startswith("step_") and step in left:
            left.remove(step)
            raise OSError(28, "No space left on device")
        return commit(self, draft, files)

    monkeypatch.setattr(Folder, "commit", full)


@pytest.fixture(autouse=True)
def _ask_at_every_step(monkeypatch):
    monkeypatch.setattr(preemption, "STRIDE", 1)


@pytest.fixture
def held(monkeypatch):
    held = []
    monkeypatch.setattr(loop, "hold", held.append)
    return held


@pytest.fixture
def twin(guarded, train, poison, tmp_path):
    """Trains a trial undisturbed; returns what its last checkpoint holds and the trial."""

    def run(spoil):
        poison.spoil = spoil
        work = guarded(recipe__schedule="cosine")
        train(work, "whole")
        poison.steps.clear()
        return newest(tmp_path / "whole"), work

    return run


def rewinds(records, name="run"):
    return [tuple(record[key] for key in ("from", "target", "to")) for record in records(name, "rewound")]


def assert_same_curves(records):
    one, other = ({r["step"]: (r["metrics"], r["skipped"]) for r in records(name, "step")} for name in ("run", "whole"))
    assert one == other


def test_a_notice_before_the_bad_stretch_changes_no_bit(twin, train, records, poison, held, tmp_path):
    whole, work = twin(bad(7, 8, 9))
    train(work, world=noticed_at(poison, (5, 0)))
    assert [record["step"] for record in records(event="preempted")] == [5]
    assert rewinds(records, "whole") == rewinds(records) == [(9, 4, 4)]
    assert_same(newest(tmp_path / "run"), whole)
    assert_same_curves(records)


def test_nor_where_the_nodes_go(twin, train, records, poison, monkeypatch, tmp_path):
    def end(notice):
        raise KilledError

    whole, work = twin(bad(7, 8, 9))
    monkeypatch.setattr(loop, "hold", end)
    poison.kill = {(6, 1)}  # and once more behind the rewind: the checkpoint of step 5 is still the newest
    for world in (noticed_at(poison, (5, 0)), None):
        with pytest.raises(KilledError):
            train(work, world=world)
    train(work)
    assert [record["resumed_from"] for record in records(event="started")] == [0, 5, 5]
    assert rewinds(records) == [(9, 4, 4)] * 2
    assert_same(newest(tmp_path / "run"), whole)


def test_a_target_without_its_checkpoint_is_trained_to_again_with_the_same_data(
    twin, train, records, poison, monkeypatch, tmp_path
):
    whole, work = twin(bad(10, 11, 12))
    full_at(monkeypatch, 8)
    train(work)
    assert rewinds(records, "whole") == [(12, 8, 8)]
    assert rewinds(records) == [(12, 8, 4)]
    assert poison.steps == [(n, 0) for n in range(1, 13)] + [(n, 1) for n in range(5, 17)]
    assert kept(tmp_path / "run")[-2:] == [12, 16]
    assert_same(newest(tmp_path / "run"), whole)
    assert_same_curves(records)


def test_so_is_one_whose_checkpoint_is_damaged(twin, train, records, poison, monkeypatch, tmp_path):
    whole, work = twin(bad(10, 11, 12))
    take_back = Saver.take_back

    def damaged_first(self, *arguments):
        self.wait()
        (path,) = (tmp_path / "run" / "checkpoints" / "step_000000008" / "state").glob("shard-00001-*")
        path.write_bytes(path.read_bytes()[:-1])
        take_back(self, *arguments)

    monkeypatch.setattr(Saver, "take_back", damaged_first)
    train(work)
    assert rewinds(records) == [(12, 8, 4)]
    assert [record["step"] for record in records(event="damaged")] == [8]
    assert_same(newest(tmp_path / "run"), whole)


def test_a_checkpoint_of_a_stretch_that_was_taken_back_is_passed_over(
    twin, train, records, poison, monkeypatch, held, tmp_path
):
    """That of step 5 holds what other data made, although it is the newest one before step 8."""
    whole, work = twin({**bad(7, 8, 9), **bad(10, 11, 12, rewinds=1)})
    full_at(monkeypatch, 8)
    train(work, world=noticed_at(poison, (5, 0)))
    assert rewinds(records, "whole") == [(9, 4, 4), (12, 8, 8)]
    assert rewinds(records) == [(9, 4, 4), (12, 8, 4)]
    assert_same(newest(tmp_path / "run"), whole)
    assert_same_curves(records)


def test_without_any_checkpoint_it_is_trained_to_from_the_beginning(
    twin, train, records, poison, monkeypatch, tmp_path
):
    whole, work = twin({**bad(6, 7, 8), **bad(10, 11, 12, rewinds=1)})
    full_at(monkeypatch, 4, 4, 8)
    train(work)
    assert rewinds(records) == [(8, 4, 0), (12, 8, 0)]
    assert_same(newest(tmp_path / "run"), whole)


def test_a_kill_on_the_way_back_to_the_target_changes_no_bit(twin, train, records, poison, monkeypatch, tmp_path):
    whole, work = twin(bad(10, 11, 12))
    full_at(monkeypatch, 8)
    poison.kill = {(7, 1), (10, 1)}
    for _ in range(2):
        with pytest.raises(KilledError):
            train(work)
    train(work)
    assert [record["resumed_from"] for record in records(event="started")] == [0, 4, 8]
    assert_same(newest(tmp_path / "run"), whole)


def test_the_checkpoint_that_a_rewind_leads_to_stays(trial):
    weights = TrialWeights(Autoencoding(trial(), World()))
    weights.step, weights.guard.target = 9, 4
    assert 4 in weights.snapshot({}).needed


def test_a_checkpoint_that_is_tried_again_at_its_own_step_counts(
    twin, train, records, poison, monkeypatch, held, tmp_path
):
    whole, work = twin({})
    full_at(monkeypatch, 8)
    train(work, world=noticed_at(poison, (8, 0)))
    assert [record["step"] for record in records(event="alarm")] == [8]
    kept, twins = ([(r["step"], r["best_step"]) for r in records(name, "checkpoint")] for name in ("run", "whole"))
    assert kept == twins
    assert_same(newest(tmp_path / "run"), whole)


def test_a_course_tells_every_batch():
    course = Course().divert(4).divert(8).divert(4)
    assert course == Course((4, 4, 8))
    assert [course.place(step, 100) for step in (3, 4, 7, 8)] == [3, 204, 207, 308]
    assert [course.past(step) for step in (4, 5, 8, 9)] == [(), (4, 4), (4, 4), (4, 4, 8)]


def broken(world, work, samples, folder, full):
    """On every rank: steps 10 to 12 break, with the checkpoint of step 8 there or not."""
    with pytest.MonkeyPatch.context() as patch:
        Poison(patch).spoil = bad(10, 11, 12)
        if full:
            full_at(patch, 8)
        journal = Journal(folder / "journal.jsonl") if world.rank == 0 else None
        loop.train_vae(work, samples, folder, journal, world, {})


def test_two_processes_go_back_alike(guarded, samples, tmp_path):
    work = guarded()
    found = []
    for name, full in (("whole", False), ("run", True)):
        as_ranks(2, tmp_path / name, broken, work, samples, tmp_path / name, full)
        with CheckpointStore(tmp_path / name / "checkpoints", keep=9).newest_good() as (step, _):
            assert step == 16
        found.append(newest(tmp_path / name))
    assert_same(*found)
    assert torch.is_tensor(found[0]["guard/window"])
