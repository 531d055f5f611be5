"""The studies of a home as the server holds them: opened when first asked for, read on at every question."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from transvae_dashboards.follow.pulse import Pulse
from transvae_dashboards.follow.study import FollowedStudy
from transvae_dashboards.laws import fit_study
from transvae_dashboards.views.home import Glance
from transvae_platform.errors import UserError
from transvae_platform.fitting import FitReport
from transvae_platform.study.folders import study_folder
from transvae_platform.study.lease import Holder
from transvae_platform.study.state import STATES

SECONDS = 1.0
"""That one question may spend on reading journals; what is left is read by the next ones."""
OFTEN = 0.5
"""Seconds between two readings: many open pages ask together."""


@dataclass
class Opened:
    """One study, and what was made of it."""

    state: FollowedStudy
    pulse: Pulse
    holder: Holder | None = None
    looked: float = 0.0
    _fits: tuple[object, Mapping[str, FitReport]] | None = field(default=None, repr=False)

    def refresh(self, clock: Callable[[], float]) -> None:
        """Read on, unless that was done a moment ago."""
        if clock() - self.looked < OFTEN:
            return
        self.state.refresh()
        self.holder = self.pulse.runs()
        self.looked = clock()

    @property
    def version(self) -> str:
        """Equal for equal pages."""
        return f"{self.state.version}.{self.state.unread}.{self.holder is not None:d}"

    @property
    def changes(self) -> bool:
        """Whether an open page is to look again."""
        waiting = any(trial.state in ("queued", "running") for trial in self.state.trials.values())
        return waiting or self.holder is not None or self.state.unread > 0

    @property
    def standing(self) -> str:
        """Who runs the study, and what is not read yet, in a sentence."""
        if self.state.unread:
            return f"Reading journals: {self.state.unread} of {len(self.state.trials)} trials are still to be read."
        if self.holder is not None:
            return f"Process {self.holder.pid} on {self.holder.host} runs this study."
        left = [trial for trial in self.state.trials.values() if trial.state in ("queued", "running")]
        if left:
            return (
                f"No process runs this study, {len(left)} of its trials are not over: submit it again, or ask "
                f"`transvae doctor {self.state.name}`."
            )
        return "All trials are over." if self.state.trials else "No trial has been queued yet."

    def fits(self, state: FollowedStudy) -> Mapping[str, FitReport]:
        """The laws, fitted again only when a number that they rest on has changed."""
        trials = [(t.trial.id, t.state, t.final, None if t.final else t.step, t.reason) for t in state.autoencoders]
        basis = (state.spec.get("fits"), trials)
        if self._fits is None or self._fits[0] != basis:
            self._fits = (basis, fit_study(state))
        return self._fits[1]


class Studies:
    """All studies of a home. Not thread-safe."""

    def __init__(self, home: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.home, self._clock = home, clock
        self._opened: dict[str, Opened] = {}

    def names(self) -> list[str]:
        """The studies that were submitted in this home; a folder whose name is no text has no address."""
        found = (journal.parent.name for journal in self.home.glob("studies/*/journal.jsonl"))
        return sorted(name for name in found if _is_text(name))

    def open(self, name: str) -> Opened | None:
        """A study as it is now; None if there is none of that name.

        Raises:
            UserError: its journal cannot be read.
        """
        if name not in self.names():  # also what keeps paths out of the file system
            self._opened.pop(name, None)
            return None
        folder = study_folder(self.home, name)
        if name not in self._opened:
            self._opened[name] = Opened(FollowedStudy(folder, seconds=SECONDS), Pulse(folder))
        self._opened[name].refresh(self._clock)
        return self._opened[name]

    def glance(self, name: str) -> Glance | str:
        """How many trials are in which state; or why that cannot be told."""
        try:
            opened = self.open(name)
        except UserError as error:
            return str(error)
        if opened is None:  # removed since it was listed
            return Glance({}, 0)
        return Glance({state: len(opened.state.in_state(state)) for state in STATES}, opened.state.unread)


def _is_text(name: str) -> bool:
    """Whether a file name can be written into a page; Linux takes any bytes as one."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
