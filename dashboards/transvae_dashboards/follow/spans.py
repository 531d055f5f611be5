"""When a trial was worked on: one span per attempt, by the clock on the wall, for timelines.

Clocks may be wrong and may jump (`study/journal.py`, 7): spans are for looking at; durations come from `TrialState`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from transvae_platform.study.record import Record
from transvae_platform.study.state import TIMED

ENDS = {"finished": "finished", "failed": "failed", "stopped": "stopped", "paused": "paused", "preempted": "preempted"}
"""Events that end an attempt, and the word for it."""


@dataclass
class Span:
    """One attempt: from, to (seconds since the epoch), the steps between them, and how it ended."""

    start: float
    end: float
    resumed_from: int
    step: int
    how: str = "running"
    """`running`, one of `ENDS`, or `died` where the next attempt began without a word of the last."""


@dataclass
class History:
    """All attempts of a trial in order."""

    spans: list[Span] = field(default_factory=list)

    def take(self, record: Record) -> None:
        """One record of the trial's journal."""
        event = record["event"]
        if event == "started":
            if self.spans and self.spans[-1].how == "running":
                self.spans[-1].how = "died"
            self.spans.append(Span(record["at"], record["at"], record["resumed_from"], record["resumed_from"]))
            return
        if event not in (*TIMED, *ENDS) or not self.spans or self.spans[-1].how not in ("running", "preempted"):
            return
        span = self.spans[-1]
        span.end = max(span.end, record["at"])
        span.step = max(span.step, record.get("step", 0))
        if event in ENDS:
            span.how = ENDS[event]

    def as_json(self) -> list[dict[str, Any]]:
        return [asdict(span) for span in self.spans]


def history_of(values: list[dict[str, Any]]) -> History:
    """The reverse of `as_json`."""
    return History([Span(**value) for value in values])
