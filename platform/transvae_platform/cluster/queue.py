"""Ray Tune asks here which trial to start next, and gets the answer of `study/scheduling.py`.

Tune's own order would be that of the list: a large trial could wait behind every small one that fits first.
Errands, what is to be done between trials, hold slots like trials and run one after the other in a thread of this
process; Tune never hears of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ray.tune.search import Searcher

from transvae_platform.study.scheduling import Agenda, Policy, Running, Work

Errand = Callable[[], bool]
"""Does something between trials; whether those that wait for it may begin."""


class StudyQueue(Searcher):
    """The trials of a study, each handed out once, when the policy says so."""

    def __init__(
        self,
        agenda: Agenda,
        ended_well: Callable[[str], bool],
        now: Callable[[], float] = time.monotonic,
        stopping: Callable[[], bool] = lambda: False,
        errands: Mapping[str, Errand] | None = None,
        details: Callable[[str], Mapping[str, Any]] = lambda name: {},
        lost: Callable[[str], None] = lambda name: None,
    ) -> None:
        """Args:
        ended_well: of a trial that is over, by its id.
        stopping: whether nothing shall start any more.
        errands: those of the agenda's works that are no trials, by their id.
        details: what a trial is told when it starts, beside its id.
        lost: told of every trial, once, that will never start because something that it waits for failed.
        """
        super().__init__(metric=None, mode=None)
        self._works = {work.id: work for work in agenda.works}
        self._policy, self._ended_well, self._now, self._stopping = Policy(agenda), ended_well, now, stopping
        self._errands, self._details, self._lost = dict(errands or {}), details, lost
        self._waiting = set(self._works)
        self._running: dict[str, tuple[str, float]] = {}
        """By Tune's id, of errands by their own: the work's id, and when it got its slots."""
        self._ended: set[str] = set()
        self._failed: set[str] = set()
        self._hopeless: set[str] = set()
        self._spent = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="errands")
        self._doing: dict[str, Future[bool]] = {}

    @property
    def left_over(self) -> list[str]:
        """Trials that were never started because the budget is spent or the study stops."""
        return sorted(self._waiting - self._hopeless - self._errands.keys())

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial as `{"trial": id}` with its details, None while none may start, `Searcher.FINISHED` when none

        ever will. Raises what an errand did not expect.
        """
        self._take_errands()
        self._tell_lost()
        while not self._stopping() and (starting := self._choose()):
            work = starting[0]
            self._waiting.remove(work.id)
            if work.id not in self._errands:
                self._running[trial_id] = (work.id, self._now())
                return {"trial": work.id, **self._details(work.id)}
            self._running[work.id] = (work.id, self._now())
            self._doing[work.id] = self._thread.submit(self._errands[work.id])
        return None if self._running else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        name = self._leave(trial_id)
        (self._ended if self._ended_well(name) else self._failed).add(name)

    def close(self) -> None:
        """No errand begins any more; one that is being run ends with Ray."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: journals say what is left, and a new submission makes a new queue."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called, for nothing is restored."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune writes a copy of every searcher that nobody reads."""
        return {}

    def _choose(self) -> list[Work]:
        now = self._now()
        running = [Running(self._works[name], since + self._works[name].seconds) for name, since in self._holding()]
        # an errand holds no slots while another one is being run
        able = self._waiting - self._hopeless - (self._errands.keys() if self._doing else set())
        return self._policy.choose(able, running, self._ended, now, self._spent_at(now))

    def _tell_lost(self) -> None:
        for name in sorted(self._policy.hopeless(self._waiting, self._failed) - self._hopeless):
            self._hopeless.add(name)
            if name not in self._errands:
                self._lost(name)

    def _take_errands(self) -> None:
        for name in [name for name, future in self._doing.items() if future.done()]:
            future = self._doing.pop(name)
            self._leave(name)
            (self._ended if future.result() else self._failed).add(name)

    def _leave(self, key: str) -> str:
        name, since = self._running.pop(key)
        self._spent += self._works[name].slots * (self._now() - since)
        return name

    def _holding(self) -> Sequence[tuple[str, float]]:
        return list(self._running.values())

    def _spent_at(self, now: float) -> float:
        return self._spent + sum(self._works[name].slots * (now - since) for name, since in self._holding())
