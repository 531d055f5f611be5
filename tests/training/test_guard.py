"""The guard alone, and in the loop: bad steps are skipped, bad stretches taken back, and nothing bad is ever kept."""

import math

import numpy as np
import pytest
import torch
from tests.training.poison import LIMITS, NAN, assert_same, flat, kept, newest
from tests.training.twins import KilledError

from transvae_platform.errors import UserError
from transvae_platform.study.recipe_spec import Recipe
from transvae_platform.training import loop
from transvae_platform.training.autoencoding import Autoencoding
from transvae_platform.training.course import Course
from transvae_platform.training.guard import BadStretchError, Guard
from transvae_platform.training.loop import DivergedError
from transvae_platform.training.weights import TrialWeights
from transvae_platform.world import World


def make_guard(device="cpu", **changes):
    recipe = Recipe(steps=100, batch_size=8, learning_rate=1e-3, guard={**LIMITS, **changes})
    return Guard(recipe, torch.device(device))


def feed(guard, *losses, norm=1.0, world=None):
    """The verdict on every loss."""
    verdicts = []
    for loss in losses:
        guard.judge(torch.tensor(loss), torch.tensor(norm), world or World())
        verdicts.append(guard.bad.item())
    return verdicts


class Pair(World):
    """This process with another one that always reports the same values."""

    def sum(self, values):
        return values + torch.tensor(self.__dict__["other"])


def pair(*other):
    world = Pair(size=2)
    world.__dict__["other"] = other
    return world


@pytest.mark.parametrize(("loss", "norm"), [(NAN, 1.0), (math.inf, 1.0), (-math.inf, 1.0), (1.0, NAN), (1.0, math.inf)])
def test_what_is_not_finite_is_bad_from_the_first_step_on(loss, norm):
    guard = make_guard()
    assert feed(guard, loss, norm=norm) == [1]
    assert feed(guard, 1.0) == [0]
    assert guard.look(2, False).skipped == 1


def test_an_outlier_is_above_both_bounds_and_has_enough_to_be_compared_with():
    calm = [1.0, 1.1, 0.9, 1.0]  # mean 1, deviation 0.07: 6 sigma end at 1.42, twice the mean at 2
    assert feed(make_guard(), *calm[:3], 50.0) == [0, 0, 0, 0]
    assert feed(make_guard(), *calm, 2.01) == [0, 0, 0, 0, 1]
    assert feed(make_guard(), *calm, 1.99) == [0] * 5
    wild = [0.1, 2.0, 0.1, 2.0]  # mean 1.05, deviation 0.95: twice the mean ends at 2.1, 6 sigma at 6.75
    assert feed(make_guard(), *wild, 6.7) == [0] * 5
    assert feed(make_guard(), *wild, 6.8) == [0, 0, 0, 0, 1]


def test_the_window_is_that_of_the_last_good_losses():
    guard, losses = make_guard(sigma=3.0, factor=1.0, patience=99), np.random.default_rng(0).uniform(1, 2, 60)
    kept = []
    for number, loss in enumerate(losses.tolist()):
        loss = loss + 9 * (number % 7 == 6)
        last = kept[-8:]
        expected = len(kept) >= 4 and loss > np.mean(last) + 3 * np.std(last)
        assert feed(guard, loss) == [expected], number
        if not expected:
            kept.append(np.float32(loss))
    assert len(kept) < 60
    assert guard.window.tolist() == pytest.approx(kept[-8:])


def test_a_large_gradient_alone_is_no_outlier():
    assert feed(make_guard(), *[1.0] * 8) == [0] * 8
    guard = make_guard()
    feed(guard, *[1.0, 1.1] * 4)
    assert feed(guard, 1.0, norm=1e6) == [0]


def test_patience_ends_with_one_bad_step_more():
    guard = make_guard()
    feed(guard, 1.0, NAN, NAN)
    assert not guard.look(3, False).calm
    feed(guard, 1.0)
    assert guard.look(4, False).calm
    feed(guard, NAN, NAN, NAN)
    with pytest.raises(BadStretchError, match=r"^3 bad steps in a row by step 7: the training loss is not finite"):
        guard.look(7, False)
    feed(guard, 1.0)  # however seldom the host looks
    with pytest.raises(BadStretchError):
        guard.look(8, False)
    guard.course = guard.course.divert(8)
    assert guard.enter(8) == 108
    assert guard.look(8, False).calm


def test_the_last_step_of_a_run_must_be_good():
    guard = make_guard()
    feed(guard, 1.0, NAN)
    guard.look(2, False)
    with pytest.raises(BadStretchError, match="1 bad step"):
        guard.look(2, True)


def test_every_process_comes_to_the_same_answer():
    assert feed(make_guard(), 1.0, world=pair(NAN, 1.0)) == [1]
    guard = make_guard()
    assert feed(guard, *[1.0, 1.2] * 2, world=pair(3.0, 1.0)) == [0] * 4
    assert guard.window[-2:].tolist() == pytest.approx([2.0, 2.1])
    assert feed(guard, 1.0, world=pair(7.0, 1.0)) == [0]  # 4: a spike for one process, less than twice the mean of both
    assert feed(guard, 1.0, world=pair(20.0, 1.0)) == [1]


def test_judging_never_waits_for_the_device():
    guard = make_guard("meta")  # tensors without values: whoever asks for one fails
    guard.judge(torch.zeros((), device="meta"), torch.zeros((), device="meta"), World())
    with pytest.raises((RuntimeError, NotImplementedError)):
        guard.look(1, False)


def test_a_restored_guard_goes_on_like_the_one_that_was_saved():
    losses = [1.0, 1.1, 0.9, 1.0, 5.0, NAN, 1.2, 1.1, 0.8, 1.0, 1.3]
    one, other = make_guard(), make_guard()
    feed(one, *losses)
    one.target, one.course = 8, Course((4, 8))
    one.enter(8)
    held = other.bad
    other.load_state_dict(one.state_dict())
    assert (other.rewinds, other.target, other.course) == (2, 8, Course((4, 8)))
    after = [1.9, 9.0, 1.0, NAN, 9.0]
    assert feed(one, *after) == feed(other, *after) == [0, 1, 0, 1, 1]
    assert one.look(16, False) == other.look(16, False)
    assert other.bad is held  # the optimiser has this tensor


def test_a_guard_of_an_earlier_version_is_refused():
    guard = make_guard()
    with pytest.raises(UserError, match="of an earlier version of this project"):
        guard.load_state_dict({**guard.state_dict(), "_extra_state": 1})


# in the loop


@pytest.mark.parametrize(
    ("factor", "step", "log_every"), [(NAN, 6, 3), (1e4, 6, 3), (NAN, 7, 3), (1e4, 7, 3), (math.inf, 8, 1), (1e4, 8, 3)]
)
def test_one_bad_step_is_skipped_and_training_goes_on(
    guarded, train, records, poison, tmp_path, factor, step, log_every
):
    poison.spoil = {(step, 0): factor}
    metrics = train(guarded(evaluation__log_every=log_every))
    assert all(math.isfinite(value) for value in metrics.values())
    assert kept(tmp_path / "run")[-1] == 16
    assert [record["step"] for record in records(event="validated")] == [n for n in (4, 8, 12, 16) if n != step]
    assert not records(event="rewound")
    assert {record["step"]: record["skipped"] for record in records(event="step")} == {
        n: int(n >= step) for n in range(1, 17) if n % log_every == 0 or n == 16
    }


@pytest.mark.parametrize("factor", [NAN, 1e4])
def test_a_skipped_step_moves_nothing(guarded, train, poison, monkeypatch, factor):
    seen = []
    step = loop.train_step

    def watch(weights, *rest):
        terms = step(weights, *rest)
        moved = [weights.model.state_dict(), weights.averaged.state_dict(), weights.optimizer.state_dict()["state"]]
        seen.append({name: value.clone() for part in enumerate(moved) for name, value in flat(dict([part]))})
        return terms

    monkeypatch.setattr(loop, "train_step", watch)
    poison.spoil = {(6, 0): factor}
    train(guarded(recipe__clip_norm=1.0))
    assert len(seen[0]) > 100
    for number in (5, 6):
        same = [torch.equal(value, seen[number][name]) for name, value in seen[number - 1].items()]
        assert all(same) if number == 5 else sum(same) < len(same) / 2


@pytest.mark.parametrize(
    ("factor", "since", "log_every"), [(NAN, 6, 3), (1e4, 6, 3), (NAN, 7, 3), (1e4, 8, 16), (NAN, 13, 16)]
)
def test_lasting_trouble_is_taken_back_twice_and_then_fails_with_the_reason(
    guarded, train, records, poison, tmp_path, since, log_every, factor
):
    poison.spoil = lambda step, rewinds: factor if step >= since else 1.0
    reason = r"bad steps in a row by step \d+: the training loss is .* after 2 rewinds"
    with pytest.raises(DivergedError, match=reason):
        train(guarded(evaluation__log_every=log_every))
    good = (since - 1) // 4 * 4
    assert max(kept(tmp_path / "run")) == good
    assert [record["step"] for record in records(event="validated")] == list(range(4, good + 1, 4))
    rewound = records(event="rewound")
    assert [(record["to"], record["rewinds"]) for record in rewound] == [(good, 1), (good, 2)]
    assert all(record["from"] >= since + 2 and "bad steps in a row" in record["reason"] for record in rewound)
    assert not records(event="finished")


def test_without_a_checkpoint_it_begins_again_from_the_initial_weights(guarded, train, records, poison, monkeypatch):
    begun = []
    back = loop._take_back

    def watch(weights, *rest):
        back(weights, *rest)
        begun.append({name: value.clone() for name, value in weights.model.state_dict().items()})
        begun.append({name: value.clone() for name, value in weights.averaged.state_dict().items()})
        assert not weights.optimizer.state
        assert weights.guard.good.item() == 0

    monkeypatch.setattr(loop, "_take_back", watch)
    work = guarded()
    poison.spoil = lambda step, rewinds: NAN if rewinds == 0 and step > 1 else 1.0
    train(work)
    fresh = TrialWeights(Autoencoding(work, World())).model.state_dict()
    assert [record["to"] for record in records(event="rewound")] == [0]
    assert len(begun) == 2
    for weights in begun:
        assert all(torch.equal(value, weights[name]) for name, value in fresh.items())


def test_after_a_rewind_it_reads_what_no_attempt_has_read(guarded, train, records, poison, monkeypatch):
    places = []
    read = loop.Ahead.batch
    monkeypatch.setattr(loop.Ahead, "batch", lambda self, step: places.append(step) or read(self, step))
    poison.spoil = lambda step, rewinds: NAN if rewinds < 2 and step in (9, 10, 11) else 1.0
    train(guarded())
    assert places == [*range(11), *range(16 + 8, 16 + 11), *range(32 + 8, 32 + 16)]
    assert [(record["from"], record["to"]) for record in records(event="rewound")] == [(11, 8), (11, 8)]
    assert records(event="finished")
    # a stretch that was over before anyone looked is taken back too
    poison.steps.clear()
    train(guarded(evaluation__log_every=16), "seldom")
    assert [(record["from"], record["to"]) for record in records("seldom", "rewound")] == [(12, 8), (12, 8)]


def test_a_run_does_not_end_on_a_bad_step(guarded, train, records, poison, tmp_path):
    poison.spoil = {(16, 0): NAN}
    train(guarded())
    (rewound,) = records(event="rewound")
    assert (rewound["from"], rewound["to"]) == (16, 12)
    assert [record["step"] for record in records(event="validated")] == [4, 8, 12, 16]


STORIES = {
    "skip before the kill": ({(6, 0): NAN}, {(10, 0)}),
    "skip between the checkpoint and the kill": ({(9, 0): 1e4}, {(10, 0)}),
    "skip after the kill": ({(11, 0): NAN}, {(10, 0)}),
    "outlier that is one by what the window held": ({(13, 0): 3.0}, {(10, 0)}),
    "kill in a bad stretch": ({(n, 0): NAN for n in (9, 10, 11)}, {(11, 0)}),
    "rewind after the kill": ({(n, 0): NAN for n in (10, 11, 12)}, {(7, 0)}),
    "kill between the rewind and a checkpoint": ({(n, 0): NAN for n in (9, 10, 11)}, {(10, 1)}),
    "kill after a checkpoint with the rewind": ({(n, 0): NAN for n in (5, 6, 7)}, {(10, 1)}),
    "two rewinds and kills": (
        dict.fromkeys([(5, 0), (6, 0), (7, 0), (13, 1), (14, 1), (15, 1)], NAN), {(6, 0), (6, 1), (15, 1), (14, 2)}
    ),
}  # fmt: skip


@pytest.mark.parametrize("story", STORIES)
def test_killed_and_resumed_equals_uninterrupted_whatever_the_guard_did(
    guarded, train, records, poison, tmp_path, story
):
    work = guarded(recipe__schedule="cosine")
    poison.spoil, kills = STORIES[story]
    train(work, "whole")
    assert [record["skipped"] for record in records("whole", "step")][-1] or records("whole", "rewound")
    poison.kill = set(kills)
    for _ in kills:
        with pytest.raises(KilledError):
            train(work)
    train(work)
    assert_same(newest(tmp_path / "run"), newest(tmp_path / "whole"))
    one, other = (
        {record["step"]: (record["metrics"], record["skipped"]) for record in records(name, "step")}
        for name in ("run", "whole")
    )
    assert one == other
