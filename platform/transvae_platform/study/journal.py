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
8. Where the disk takes no more, a writer that may be patient (that of a trial) keeps its records in memory, up to a
   bound, and writes them in their order as soon as it can: before the next record, and when it is told to `settle`.
   What still waits when its process ends is lost; so no checkpoint is made while anything waits (`training/saver.py`),
   and no trial reports success before everything is written. All other writers refuse at once. A flush that fails ends
   any writer: what the disk took of it is unknown.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from transvae_platform.errors import UserError
from transvae_platform.study.lease import Fence

Record = dict[str, Any]
Clock = Callable[[], float]


PATIENCE = 16 * 2**20
"""Bytes of records that a trial keeps in memory while its disk is full: some 40,000 steps of 400 bytes (assumption)."""


class Journal:
    """Appends records to one journal file; see the protocol above. `patience` is how many bytes of them may wait."""

    def __init__(
        self,
        path: Path,
        fence: Fence | None = None,
        clock: Clock = time.time,
        steady: Clock = time.monotonic,
        patience: int = 0,
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._clock, self._steady, self.fence, self._patience = path, clock, steady, fence, patience
        self._file = path.open("ab", buffering=0)
        self._waiting = bytearray(b"\n" if _ends_torn(path) else b"")
        self.problem: str | None = None
        """Why records wait in memory, None while none do."""

    def append(self, event: str, **fields: Any) -> None:
        """Write one record; `fields` must be JSON values (NaN and infinity become null).

        Raises:
            UserError: the journal cannot be written, and more than its patience waits.
            SupersededError: a later submission or attempt has taken over.
        """
        times = {"at": round(self._clock(), 3), "up": round(self._steady(), 3)}
        record = {**times, "event": event, **_finite(fields)}
        line = json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        self._write(line)
        if self.problem is None and event != "step":
            os.fsync(self._file.fileno())
        if len(self._waiting) > self._patience:
            self._waiting.clear()
            raise UserError(
                f"{self._path} cannot be written ({self.problem}) - make room, then submit again: the study continues"
            )

    def settle(self) -> str | None:
        """Let everything reach the disk; returns why that is impossible, or None. Raises as `append`."""
        self._write()
        if self.problem is None:
            os.fsync(self._file.fileno())
        return self.problem

    def close(self) -> None:
        """Close the file; the journal object must not be used afterwards. What finds no room now is lost."""
        try:
            if self._waiting:
                self._write()
        finally:
            self._file.close()

    def _write(self, line: bytes = b"") -> None:
        """Write what waits and then a line, as far as there is room; the rest waits."""
        if self.fence is not None:
            self.fence.check()
        self._waiting += line
        try:
            while self._waiting:  # once, but on a disk that takes a part
                del self._waiting[: self._file.write(self._waiting)]
            self.problem = None
        except OSError as error:
            self.problem = error.strerror or str(error)


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
