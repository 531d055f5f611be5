"""The append-only journal: the truth of a study. Ray and MLflow serve it and may be lost.

Protocol
1. A journal is a file of lines, one JSON object each: `at` (seconds since the epoch, for people), `up` (protocol 7),
   `event`, and the event's own fields. Lines are never changed or removed.
2. Each file has one writer at a time: the study's file is written by the submitting process, which holds the study's
   lease; a trial's file by rank 0 of its training workers, and by the submitting process once those have ended.
3. A record is appended with a single write, and reaches the disk (fsync) before `append` returns when losing it
   would change what happens next (every event but `step`).
4. A reader takes complete lines only. A torn last line, left by a kill, is not there for readers, and the next writer
   ends it with a newline so that it spoils no other record.
5. Order is the order in the file. Where an attempt repeats steps of an earlier one, the later record of a step wins.
6. Before every record its writer makes sure that its submission is the study's newest (the fence of `study/lease.py`).
7. `at` is what the clock of the writing machine said, which may be wrong and may jump. Durations are differences of
   `up`, the writer's monotonic clock, and mean something between records of one attempt only.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from transvae_platform.study.lease import Fence

Record = dict[str, Any]
Clock = Callable[[], float]


class Journal:
    """Appends records to one journal file; see the protocol above."""

    def __init__(
        self, path: Path, fence: Fence | None = None, clock: Clock = time.time, steady: Clock = time.monotonic
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._clock, self._steady, self.fence = clock, steady, fence
        self._file = path.open("ab", buffering=0)
        if _ends_torn(path):
            self._file.write(b"\n")

    def append(self, event: str, **fields: Any) -> None:
        """Write one record; `fields` must be JSON values (NaN and infinity become null)."""
        if self.fence is not None:
            self.fence.check()
        times = {"at": round(self._clock(), 3), "up": round(self._steady(), 3)}
        record = {**times, "event": event, **_finite(fields)}
        self._file.write(json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n")
        if event != "step":
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; the journal object must not be used afterwards."""
        self._file.close()


class JournalReader:
    """Reads a journal as it grows: every call of `new` yields the records completed since the last call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def skip(self) -> None:
        """Pass over the records that are there."""
        for _ in self.new():
            pass

    def new(self) -> Iterator[Record]:
        """The complete records that were not yielded before, in order."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                tail = file.read()
        except FileNotFoundError:
            return
        complete, newline, _ = tail.rpartition(b"\n")
        self._offset += len(complete) + len(newline)
        for line in complete.split(b"\n"):
            try:
                record = json.loads(line)
            except ValueError:  # a torn line that a later writer closed (protocol 4), or an empty one
                continue
            if isinstance(record, dict) and "event" in record:
                yield record


def read_journal(path: Path) -> list[Record]:
    """All complete records of a journal; an absent file has none."""
    return list(JournalReader(path).new())


def _ends_torn(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return value
