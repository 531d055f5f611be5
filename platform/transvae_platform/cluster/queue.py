"""Ray Tune asks here which trial to start next, and gets the answer of `study/scheduling.py`.

Tune's own order would be that of the list: a large trial could wait behind every small one that fits first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from ray.tune.search import Searcher

from transvae_platform.study.scheduling import Agenda, Policy, Running


class StudyQueue(Searcher):
    """The trials of a study, each handed out once, when the policy says so."""

    def __init__(
        self,
        agenda: Agenda,
        ended_well: Callable[[str], bool],
        stopping: Callable[[], bool] = lambda: False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args: ended_well: of a trial that is over, by its id; stopping: whether no trial shall start any more."""
        super().__init__(metric=None, mode=None)
        self._works = {work.id: work for work in agenda.works}
        self._policy, self._ended_well, self._now = Policy(agenda), ended_well, now
        self._stopping = stopping
        self._waiting = set(self._works)
        self._running: dict[str, tuple[str, float]] = {}
        """By Tune's id: the trial's own, and when it got its slots."""
        self._ended: set[str] = set()
        self._failed: set[str] = set()
        self._spent = 0.0

    @property
    def left_over(self) -> list[str]:
        """Trials that were never started: the budget is spent, what they wait for failed, or the study stops."""
        return sorted(self._waiting)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial as `{"trial": id}`, None while none may start, `Searcher.FINISHED` when none ever will."""
        if self._stopping():
            return None if self._running else Searcher.FINISHED
        now = self._now()
        running = [Running(self._works[name], since + self._works[name].seconds) for name, since in self._holding()]
        hopeful = self._waiting - self._policy.hopeless(self._waiting, self._failed)
        starting = self._policy.choose(hopeful, running, self._ended, now, self._spent_at(now))
        if starting:
            work = starting[0]
            self._waiting.remove(work.id)
            self._running[trial_id] = (work.id, now)
            return {"trial": work.id}
        return None if self._running else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        name, since = self._running.pop(trial_id)
        self._spent += self._works[name].slots * (self._now() - since)
        (self._ended if self._ended_well(name) else self._failed).add(name)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: journals say what is left, and a new submission makes a new queue."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called, for nothing is restored."""

    def _holding(self) -> Sequence[tuple[str, float]]:
        return list(self._running.values())

    def _spent_at(self, now: float) -> float:
        return self._spent + sum(self._works[name].slots * (now - since) for name, since in self._holding())
