"""A notice that nodes are taken away: one checkpoint, nothing lost, and training goes on if they stay."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from tests.training.ranks import as_ranks
from tests.training.twins import KilledError, assert_same, last_state

from transvae_platform.study.journal import Journal
from transvae_platform.training import autoencoding, loop, preemption
from transvae_platform.training.checkpoint import CheckpointStore
from transvae_platform.training.preemption import (
    FALLBACK_SECONDS,
    LONGEST_SECONDS,
    POLL_SECONDS,
    TEARDOWN_SECONDS,
    Notices,
    hold,
)
from transvae_platform.training.weights import TrialWeights
from transvae_platform.world import Notice, World

NOTICE = Notice(nodes=("node-a",), deadline=1000.0)
STEPS = {"recipe__steps": 14, "recipe__schedule": "cosine", "evaluation__every": 4}


@pytest.fixture(autouse=True)
def _ask_every_two_steps(monkeypatch):
    monkeypatch.setattr(preemption, "STRIDE", 2)
    monkeypatch.setattr(preemption, "POLL_SECONDS", 1e9)


@pytest.fixture
def held(monkeypatch):
    """The notices that training held still for; it goes on at once."""
    held = []
    monkeypatch.setattr(loop, "hold", held.append)
    return held


@pytest.fixture
def torn_down(monkeypatch):
    def end(notice):
        raise KilledError

    monkeypatch.setattr(loop, "hold", end)


def noticed_at(step, notice=NOTICE):
    """A world that is asked at the first and then every two steps and has this notice from `step` on."""
    asked = iter([1, *range(2, 1000, 2)])
    return World(notice=lambda: notice if next(asked) >= step else None)


@pytest.mark.parametrize("step", [2, 6, 8], ids=["before any validation", "between", "at a checkpoint"])
def test_notice_costs_no_step_and_changes_no_bit(trial, train, records, tmp_path, monkeypatch, torn_down, step):
    work = trial(**STEPS)
    train(work, "whole")
    with pytest.raises(KilledError):
        train(work, world=noticed_at(step))
    *_, checkpoint, preempted = records()
    assert (checkpoint["event"], checkpoint["step"]) == ("checkpoint", step)
    assert preempted["event"] == "preempted"
    assert (preempted["step"], preempted["deadline"], preempted["nodes"]) == (step, 1000.0, ["node-a"])
    kept = [*range(4, step, 4), step]
    assert [record["step"] for record in records(event="checkpoint")] == kept, "one, though validated steps have theirs"
    assert CheckpointStore(tmp_path / "run" / "checkpoints", keep=9).steps() == kept
    train(work)
    assert [record["resumed_from"] for record in records(event="started")] == [0, step]
    steps = [record["step"] for record in records(event="step")]
    assert steps == list(range(1, 15)), "every step once"
    assert_same(last_state(tmp_path / "run"), last_state(tmp_path / "whole"))
    for event in ("step", "validated", "finished"):
        of = [{r["step"]: r["metrics"] for r in records(name, event)} for name in ("run", "whole")]
        assert of[0] == of[1]


def test_checkpoint_between_validations_keeps_the_best_step(trial, train, records, tmp_path, torn_down):
    work = trial(**STEPS, evaluation__keep_checkpoints=1)
    with pytest.raises(KilledError):
        train(work, world=noticed_at(10))
    best = max(records(event="validated"), key=lambda record: record["metrics"]["val/psnr"])["step"]
    assert records(event="checkpoint")[-1]["best_step"] == best
    assert CheckpointStore(tmp_path / "run" / "checkpoints", keep=9).steps() == [best, 10]
    step, _, others = last_state(tmp_path / "run")
    assert (step, others["best"][0][1]) == (10, best)
    assert others["metrics"] == records(event="validated")[-1]["metrics"]


def test_nodes_that_stay_let_training_go_on(trial, train, records, tmp_path, held):
    work = trial(**STEPS)
    train(work, "whole")
    train(work, world=noticed_at(6))
    assert held == [NOTICE], "heeded once, though Ray repeats it"
    assert [record["step"] for record in records(event="preempted")] == [6]
    assert [record["step"] for record in records(event="checkpoint")] == [4, 6, 8, 12, 14]
    assert records(event="finished")
    assert_same(last_state(tmp_path / "run"), last_state(tmp_path / "whole"))


def test_a_trial_at_its_last_step_finishes(trial, train, records, held):
    train(trial(**STEPS), world=noticed_at(14))
    assert held == []
    assert records(event="finished")
    assert not records(event="preempted")


def test_a_diverged_loss_is_not_saved_at_a_notice(trial, train, records, monkeypatch, held):
    objective = autoencoding.Criterion.generator
    calls = iter(range(1, 100))

    def poisoned(self, *arguments):
        total, judged, terms = objective(self, *arguments)
        factor = float("nan") if next(calls) == 6 else 1.0
        return total * factor, judged * factor, terms

    monkeypatch.setattr(autoencoding.Criterion, "generator", poisoned)
    train(trial(**STEPS, evaluation__log_every=50), world=noticed_at(6))
    assert [record["step"] for record in records(event="preempted")] == [6]
    assert [record["step"] for record in records(event="checkpoint")] == [4, 8, 12, 14], "none of the bad step"


def test_another_notice_is_another_matter():
    told = iter([None, None, NOTICE, NOTICE, Notice(("node-a", "node-b"), 2000.0)])
    notices = Notices(World(notice=lambda: next(told)))
    found = [notices.at(step) for step in range(1, 9)]
    assert found == [None, None, None, NOTICE, None, None, None, Notice(("node-a", "node-b"), 2000.0)]


@pytest.mark.parametrize("seconds", [0.02, 0.5, 1.8, 30.0])
def test_a_notice_is_asked_for_by_time_where_steps_are_slow(monkeypatch, seconds):
    monkeypatch.undo()
    now, asked = [0.0], []
    notices = Notices(World(notice=lambda: asked.append(now[0])), lambda: now[0])
    for step in range(1, 200):
        now[0] += seconds
        notices.at(step)
    waits = [later - earlier for earlier, later in pairwise(asked)]
    assert max(waits) <= max(POLL_SECONDS, seconds) + 1e-9
    assert len(asked) <= 199 / max(1, min(preemption.STRIDE, int(POLL_SECONDS / seconds))) + 3


@pytest.mark.parametrize(
    ("deadline", "seconds"),
    [
        (130.0, FALLBACK_SECONDS), (None, FALLBACK_SECONDS), (400.0, 300.0),
        (100.0 - 3600, FALLBACK_SECONDS), (100.0 + 3600, LONGEST_SECONDS),
    ],
    ids=["soon", "not told", "later", "this clock is an hour fast", "this clock is an hour slow"],
)  # fmt: skip
def test_hold_ends_when_the_nodes_should_be_gone_whatever_the_clock_says(deadline, seconds):
    steady = [7.0]

    def sleep(seconds):
        steady[0] += seconds

    hold(Notice(("node-a",), deadline), lambda: 100.0, lambda: steady[0], sleep)
    assert steady[0] == pytest.approx(7.0 + seconds + TEARDOWN_SECONDS)


def held_at(world, work, samples, folder):
    """On every rank: train until the notice; returns the step at which it held, and how often it had asked.

    As with Ray, a notice reaches the ranks at different times, and asking for it is a collective: rank 0 decides.
    """
    knows_from = {0: 3, 1: 1}[world.rank]  # the step from which this rank's node knows
    advance, now, asked = TrialWeights.advance, [0], [0]

    def count(self):
        advance(self)
        now[0] = self.step

    def notice():
        asked[0] += 1
        known = [NOTICE if now[0] >= knows_from else None]
        torch.distributed.broadcast_object_list(known, src=0)
        return known[0]

    def end(notice):
        raise KilledError

    TrialWeights.advance, loop.hold = count, end
    journal = Journal(folder / "journal.jsonl") if world.rank == 0 else None
    with pytest.raises(KilledError):
        loop.train_vae(work, samples, folder, journal, replace(world, notice=notice), {})
    return now[0], asked[0]


def test_two_processes_hold_at_the_same_step(trial, samples, tmp_path):
    work = trial(recipe__steps=9, recipe__learning_rate=2e-4, evaluation__every=9)
    held = as_ranks(2, tmp_path, held_at, work, samples, tmp_path)
    assert held == [(4, 3)] * 2, "rank 0 did not know at step 2"
    assert CheckpointStore(tmp_path / "checkpoints", keep=9).steps() == [4]


def wished_at(step):
    """A world that sees from `step` on, at the first and then every two steps, that the study shall stop."""
    asked = iter([1, *range(2, 1000, 2)])
    return World(stop=lambda: next(asked) >= step)


@pytest.mark.parametrize("step", [2, 6, 8], ids=["before any validation", "between", "at a checkpoint"])
def test_a_wish_to_stop_pauses_saved_and_changes_no_bit(trial, train, records, tmp_path, step):
    work = trial(**STEPS)
    train(work, "whole")
    train(work, world=wished_at(step))
    *_, checkpoint, paused = records()
    assert [(record["event"], record["step"]) for record in (checkpoint, paused)] == [
        ("checkpoint", step),
        ("paused", step),
    ]
    assert records(event="finished") == []
    train(work)
    assert [record["resumed_from"] for record in records(event="started")] == [0, step]
    assert [record["step"] for record in records(event="step")] == list(range(1, 15))
    assert_same(last_state(tmp_path / "run"), last_state(tmp_path / "whole"))


def paused_at(world, work, samples, folder):
    """Rank 1 sees the wish before rank 0 does."""
    asked = iter(range(100))
    world = replace(world, stop=lambda: world.rank == 1 and next(asked) >= 1)
    journal = Journal(folder / "journal.jsonl") if world.rank == 0 else None
    loop.train_vae(work, samples, folder, journal, world, {})
    return CheckpointStore(folder / "checkpoints", keep=9).steps()


def test_ranks_that_see_a_wish_at_different_times_stop_at_one_step(trial, samples, tmp_path):
    assert as_ranks(2, tmp_path, paused_at, trial(**STEPS), samples, tmp_path) == [[2]] * 2


def test_in_a_bad_stretch_a_wish_waits(trial, train, records, monkeypatch):
    monkeypatch.setattr(loop, "_save_at_once", lambda weights, saver, world: weights.step >= 6)
    train(trial(**STEPS), world=wished_at(2))
    assert [record["step"] for record in records(event="paused")] == [6]
