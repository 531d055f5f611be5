"""A study as pages read it: as `StudyState`, but curves as columns, and no journal read twice.

A trial's training records do not stay in its state but the newest (`TrialState.train`); its curves are in `columns`.
Trials that are over come from the store (`store.py`) or go there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from transvae_dashboards.follow.columns import RATE, SECONDS, Columns
from transvae_dashboards.follow.spans import History
from transvae_dashboards.follow.store import keep, recall
from transvae_platform.errors import UserError
from transvae_platform.study.journal import JournalReader
from transvae_platform.study.record import Record
from transvae_platform.study.state import StudyState, TrialState

OVER = ("finished", "stopped", "failed")


class FollowedTrial:
    """One trial's journal, read as it grows into its state, its curves and its attempts."""

    def __init__(self, trial: TrialState, stored: bool) -> None:
        self.trial, self._stored = trial, stored
        self._path = trial.folder / "journal.jsonl"
        self.columns, self.history, self._reader = Columns(), History(), JournalReader(self._path)
        if stored and (found := recall(trial)) is not None:
            position, self.columns, self.history = found
            self._reader = JournalReader(self._path, position)

    def read(self) -> bool:
        """Take what the journal gained; whether that was anything.

        Raises:
            UserError: a record is not of this version's form.
        """
        position = self._reader.position
        if _size(self._path) == position.offset:
            return False
        for record in self._reader.new():
            if self.columns.sealed and record["event"] in ("started", "step", "rewound"):
                self._start_again()
                return self.read()
            self._take(record)
        self.trial.records = self._reader.records
        if self._reader.position == position:  # the beginning of a record
            return False
        if self.trial.state in OVER and not self.columns.sealed:
            self.columns.seal()
            if self._stored:
                keep(self.trial, self._reader.position, self.columns, self.history)
        return True

    def _take(self, record: Record) -> None:
        try:
            self.trial.apply(record)
            self.history.take(record)
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{self._path}: a record `{record['event']}` was written by another version of this project, or is "
                f"damaged ({str(error).splitlines()[0]}) - use that version"
            ) from None
        match record["event"]:
            case "step":
                beside = {SECONDS: self.trial.seconds, RATE: record.get("seconds_per_step")}
                self.columns.add(record["step"], {**record["metrics"], **beside})
                self.trial.train = {record["step"]: record}
            case "started":
                self.columns.drop_after(record["resumed_from"])
            case "rewound":
                self.columns.drop_after(record["to"])

    def _start_again(self) -> None:
        """Read the whole journal again: thinned curves cannot be continued (protocol 5 of the store)."""
        old = self.trial
        fresh = TrialState(trial=old.trial, folder=old.folder, cost=old.cost)
        kept = {name: getattr(old, name) for name in ("registered", "unregistered", "ended_with")}
        vars(old).update(vars(replace(fresh, **kept)))
        self.columns, self.history, self._reader = Columns(), History(), JournalReader(self._path)


class FollowedStudy(StudyState):
    """A study that is read as it grows. Not thread-safe: whoever shares it takes turns.

    Args:
        stored: use and fill the store in the study's folder.
        seconds: how long one `refresh` may read; `unread` says how many trials are left to the next ones.
        clock: of that limit.
    """

    def __init__(
        self, folder: Path, *, stored: bool = True, seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.followed: dict[str, FollowedTrial] = {}
        self.version = 0
        """Raised whenever a journal gained a record: equal versions give equal pages."""
        self.unread = 0
        self._stored, self._limit, self._clock = stored, seconds, clock
        super().__init__(folder)

    def refresh(self) -> list[tuple[TrialState, Record]]:
        """Read what the journals gained. The records themselves are not kept: the list is empty."""
        until = None if self._limit is None else self._clock() + self._limit
        before = self._study_reader.position
        self._refresh_study()
        self.version += self._study_reader.position != before
        self.unread = 0
        for trial_id in sorted(self.trials, key=lambda name: name in self.followed):  # what nobody has read yet first
            trial = self.trials[trial_id]
            if until is not None and self._clock() > until:
                self.unread += trial_id not in self.followed
                continue
            if trial_id not in self.followed:
                self.followed[trial_id] = FollowedTrial(trial, self._stored)
                self.version += 1
            self.version += self.followed[trial_id].read()
            trial.doubtful |= trial.cut
        return []

    def columns(self, trial: TrialState) -> Columns:
        """The curves of a trial."""
        known = self.followed.get(trial.trial.id)
        return known.columns if known else Columns()

    def history(self, trial: TrialState) -> History:
        """The attempts of a trial."""
        known = self.followed.get(trial.trial.id)
        return known.history if known else History()


def followed(state: StudyState) -> FollowedStudy:
    """A study that is open already, as pages read it."""
    return state if isinstance(state, FollowedStudy) else FollowedStudy(state.folder)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
