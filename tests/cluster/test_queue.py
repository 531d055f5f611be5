"""What Ray Tune is given to start, without Ray."""

import threading
import time

import pytest
from ray.tune.search import Searcher

from transvae_platform.cluster.queue import StudyQueue
from transvae_platform.study.scheduling import Agenda, Work


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def make(works, slots, well=lambda name: True, budget=None, **more):
    clock = Clock()
    return StudyQueue(Agenda(tuple(works), {"gpu": slots}, budget=budget), well, now=clock, **more), clock


def test_trials_come_when_their_slots_are_free_and_then_no_more():
    queue, _ = make([Work("a", 2, 10.0), Work("b", 1, 5.0), Work("c", 1, 4.0)], 2)
    assert queue.suggest("1") == {"trial": "a"}
    assert queue.suggest("2") is None, "no slot is free"
    queue.on_trial_complete("1")
    assert [queue.suggest(each) for each in "34"] == [{"trial": "b"}, {"trial": "c"}]
    assert queue.suggest("5") is None
    queue.on_trial_complete("3")
    queue.on_trial_complete("4")
    assert queue.suggest("5") == Searcher.FINISHED
    assert queue.left_over == []


def test_who_waits_for_a_failed_one_is_lost_and_told_once():
    lost = []
    works = [Work("vae", 1, 1.0), Work("dit", 1, 1.0, after=("vae",)), Work("other", 1, 0.5)]
    queue, _ = make(works, 1, well=lambda name: name != "vae", lost=lost.append)
    queue.suggest("1")
    assert queue.suggest("2") is None
    queue.on_trial_complete("1", error=True)
    assert queue.suggest("2") == {"trial": "other"}
    queue.on_trial_complete("2")
    assert queue.suggest("3") == Searcher.FINISHED
    assert lost == ["dit"]
    assert queue.left_over == [], "the budget has nothing to do with it"


def asked_until(queue, expected):
    end = time.monotonic() + 10
    while (told := queue.suggest("next")) is None and time.monotonic() < end:
        time.sleep(0.001)
    assert told == expected


CHAIN = [
    Work("vae", 1, 5.0), Work("latents", 1, 1.0, after=("vae",)), Work("dit", 1, 5.0, after=("latents",)),
    Work("later", 1, 99.0),
]  # fmt: skip


def test_a_generator_begins_beside_a_later_autoencoder_once_its_errand_is_done():
    go = threading.Event()
    queue, _ = make(CHAIN, 2, errands={"latents": lambda: go.wait(10)}, details=lambda name: {"of": name})
    assert [queue.suggest(each)["trial"] for each in "12"] == ["later", "vae"]
    queue.on_trial_complete("2")
    assert queue.suggest("3") is None, "the latents are being made"
    go.set()
    asked_until(queue, {"trial": "dit", "of": "dit"})
    assert queue.left_over == []


def test_an_errand_holds_its_slots_and_no_two_are_run_at_once():
    go, begun = threading.Event(), []

    def errand(name):
        begun.append(name)
        return go.wait(10)

    works = [Work("a", 1, 9.0), Work("b", 1, 8.0), Work("trial", 1, 1.0), Work("second", 1, 0.5)]
    queue, _ = make(works, 2, errands={name: lambda name=name: errand(name) for name in "ab"})
    assert queue.suggest("1") == {"trial": "trial"}
    assert queue.suggest("2") is None, "one slot is the errand's"
    go.set()
    asked_until(queue, {"trial": "second"})
    while queue.suggest("3") is None and len(begun) < 2:
        time.sleep(0.001)
    assert begun == ["a", "b"]


def test_a_failed_errand_loses_its_generators_and_nobody_else():
    lost = []
    queue, _ = make(CHAIN, 1, errands={"latents": lambda: False}, lost=lost.append)
    for name in ("later", "vae"):
        assert queue.suggest(name) == {"trial": name}
        queue.on_trial_complete(name)
    asked_until(queue, Searcher.FINISHED)
    assert lost == ["dit"]


def test_what_an_errand_did_not_expect_ends_the_study():
    def errand():
        raise RuntimeError("as it was told to")

    queue, _ = make([Work("latents", 1, 1.0)], 1, errands={"latents": errand})
    with pytest.raises(RuntimeError, match="as it was told to"):
        asked_until(queue, None)


def test_the_budget_counts_what_was_really_spent():
    queue, clock = make([Work("a", 1, 10.0), Work("b", 1, 9.0)], 1, budget=20.0)
    assert queue.suggest("1") == {"trial": "a"}
    clock.now = 15.0  # it took longer than estimated
    queue.on_trial_complete("1")
    assert queue.suggest("2") == Searcher.FINISHED
    assert queue.left_over == ["b"]


def test_no_trial_starts_once_the_study_shall_stop():
    wishes = []
    queue, _ = make([Work("a", 1, 10.0), Work("b", 1, 5.0)], 1, stopping=lambda: bool(wishes))
    assert queue.suggest("1") == {"trial": "a"}
    wishes.append("stop")
    assert queue.suggest("2") is None, "one still saves"
    queue.on_trial_complete("1")
    assert queue.suggest("2") == Searcher.FINISHED
    assert queue.left_over == ["b"]
