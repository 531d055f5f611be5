"""What Ray Tune is given to start, without Ray."""

from ray.tune.search import Searcher

from transvae_platform.cluster.queue import StudyQueue
from transvae_platform.study.scheduling import Agenda, Work


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def make(works, slots, well=lambda name: True, budget=None, stopping=lambda: False):
    clock = Clock()
    return StudyQueue(Agenda(tuple(works), {"gpu": slots}, budget=budget), well, stopping, now=clock), clock


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


def test_who_waits_for_a_failed_one_is_left_over():
    queue, _ = make([Work("vae", 1, 1.0), Work("dit", 1, 1.0, after=("vae",))], 2, well=lambda name: False)
    queue.suggest("1")
    assert queue.suggest("2") is None
    queue.on_trial_complete("1", error=True)
    assert queue.suggest("2") == Searcher.FINISHED
    assert queue.left_over == ["dit"]


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
