"""The append-only journal: the truth of a study. Ray and MLflow serve it and may be lost.

Protocol
1. A journal is a file of lines, one JSON object each: `n` (protocol 11), `at` (seconds since the epoch, for people),
   `up` (protocol 7), `event`, the event's own fields, and a checksum (`study/record.py`), which in a trial's journal
   holds the trial's id. No reader sees a line changed or removed that has reached the disk.
2. Each file has one writer at a time: the study's file is written by the submitting process, which holds the study's
   lease; a trial's file by rank 0 of its training workers, and by the submitting process once those have ended.
3. A record is appended with a single write, and reaches the disk (fsync) before `append` returns when losing it
   would change what happens next (every event but `step`).
4. A reader takes complete lines only. A torn last line, left by a kill, is not there for readers, and the next writer
   ends it with `#torn` and a newline, so that it spoils no other record.
5. Order is the order in the file. Where an attempt repeats steps of an earlier one, the later record of a step wins.
6. Before every record its writer makes sure that its submission is the study's newest (the fence of `study/lease.py`).
7. `at` is what the clock of the writing machine said, which may be wrong and may jump. Durations are differences of
   `up`, the writer's monotonic clock, and mean something between records of one attempt only.
8. Where the disk takes no more, a writer that may be patient (that of a trial) keeps its records in memory, up to a
   bound, and writes them in their order as soon as it can: before the next record, and when it is told to `settle`.
   What still waits when its process ends is lost; so no checkpoint is made while anything waits (`training/saver.py`),
   and no trial reports success before everything is written. All other writers refuse at once.
9. A flush that fails (some file systems tell only then that there is no room) leaves unknown what the disk took since
   the last one. The file is cut back to there, and the records since then wait as in 8: the same bytes come to the same
   place.
10. Any other line that is not what was written, or that is another trial's, is a damaged record. Readers pass over it
   but say so, `status` and `doctor` name it. What it said is found again: a trial with a damaged record is attempted
   once more, and its newest checkpoint tells how it stands (no step is taken again if it had finished); what the
   study's file lacks, the next submission writes. Points of a curve that are lost this way stay lost. Without its
   first submission no one can tell which study this is: that ends every command, with the line and the ways out.
11. `n` counts the records of a file, whoever wrote them: each writer goes on from the last one that can be read. A
   number that does not follow the one before, with no damaged record between, tells that lines are missing; they are
   treated and named as damaged ones. Missing at the end of a file they leave no trace in it. Of a trial that was over
   the study's file says how many records it had (`ended`): one with fewer is named, and attempted once more. Otherwise
   an attempt finds that its checkpoint is ahead of its journal. Either leaves numbers out. Of the study's file,
   `status` and `doctor` name the trials in `trials/` that it does not know.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from transvae_platform.errors import UserError
from transvae_platform.study.lease import Fence
from transvae_platform.study.record import NUMBER, TORN, UNREADABLE, Record, line_of, record_of

Clock = Callable[[], float]


PATIENCE = 16 * 2**20
"""Bytes of records that a trial keeps in memory while its disk is full: some 40,000 steps of 400 bytes (assumption)."""
UNFLUSHED = 2**20
"""Bytes of `step` records that may be on their way to the disk at once (assumption)."""


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
        self._owner = _owner(path)
        self._file = path.open("ab", buffering=0)
        self._safe = self._file.seek(0, os.SEEK_END)
        """The size of the file at its last flush: what stands behind it may be cut off (protocol 9)."""
        self._unflushed, self._to_cut = bytearray(), False
        self._waiting = bytearray(_closing(path))
        self._number = _last_number(path, self._safe)
        self.problem: str | None = None
        """Why records wait in memory, None while none do."""

    def append(self, event: str, **fields: Any) -> None:
        """Write one record; `fields` must be JSON values (NaN and infinity become null).

        Raises:
            UserError: the journal cannot be written, and more than its patience waits.
            SupersededError: a later submission or attempt has taken over.
        """
        times = {"at": round(self._clock(), 3), "up": round(self._steady(), 3)}
        self._number += 1
        self._write(line_of({NUMBER: self._number, **times, "event": event, **fields}, self._owner))
        if event != "step" or len(self._unflushed) > UNFLUSHED:
            self._flush()
        if len(self._waiting) > self._patience:
            self._waiting[:] = _closing(self._path)
            self._number = _last_number(self._path, self._safe if self._to_cut else None)
            raise UserError(
                f"{self._path} cannot be written ({self.problem}) - make room, then submit again: the study continues"
            )

    def miss(self, known: int = 0) -> None:
        """Let readers know that records are missing here, of which there were `known` in all (protocol 11)."""
        self._number = max(self._number + 1, known)

    def settle(self) -> str | None:
        """Let everything reach the disk; returns why that is impossible, or None. Raises as `append`."""
        self._write()
        self._flush()
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
            self._cut_back()
            while self._waiting:  # once, but on a disk that takes a part
                taken = self._file.write(self._waiting)
                self._unflushed += self._waiting[:taken]
                del self._waiting[:taken]
            self.problem = None
        except OSError as error:
            self.problem = error.strerror or str(error)

    def _flush(self) -> None:
        """Let what is written reach the disk; where that fails, all of it waits again (protocol 9)."""
        if self.problem is not None:
            return
        try:
            os.fsync(self._file.fileno())
            self._safe += len(self._unflushed)
        except OSError as error:
            self._waiting[:0] = self._unflushed
            self.problem, self._to_cut = error.strerror or str(error), True
            if self.fence is not None:  # the flush may have taken minutes
                self.fence.check()
            with suppress(OSError):
                self._cut_back()
        self._unflushed.clear()

    def _cut_back(self) -> None:
        if self._to_cut:
            os.ftruncate(self._file.fileno(), self._safe)
            self._to_cut = False


class Position(NamedTuple):
    """How far a journal has been read."""

    offset: int = 0
    line: int = 0
    number: int | None = 0
    """Of the last record; None after a damaged one, which another may follow."""


START = Position()


class JournalReader:
    """Reads a journal as it grows: every call of `new` yields the records completed since the last call."""

    def __init__(self, path: Path, position: Position = START) -> None:
        self._path, self._owner = path, _owner(path)
        self._offset, self._line, self._number = position

    @property
    def position(self) -> Position:
        """Where the next call of `new` goes on, in this process or another."""
        return Position(self._offset, self._line, self._number)

    @property
    def records(self) -> int | None:
        """How many records the file has so far, by the number of the last one; None after a damaged one."""
        return self._number

    def skip(self) -> None:
        """Pass over the records that are there."""
        for _ in self.new():
            pass

    def new(self) -> Iterator[Record]:
        """The complete records that were not yielded before, in order; `UNREADABLE` for damaged or missing ones."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                tail = file.read()
        except FileNotFoundError:
            return
        complete, newline, _ = tail.rpartition(b"\n")
        self._offset += len(complete) + len(newline)
        for line in complete.split(b"\n") if newline else ():
            self._line += 1
            if not line or line.endswith(TORN):
                continue
            if (record := record_of(line, self._owner)) is None:
                self._number = None
                yield {"event": UNREADABLE, "line": self._line, "missing": False}
                continue
            number = record.pop(NUMBER, None)
            if number is not None:
                if self._number not in (None, number - 1):
                    yield {"event": UNREADABLE, "line": self._line, "missing": True}
                self._number = number
            yield record


def read_journal(path: Path) -> list[Record]:
    """All complete and undamaged records of a journal; an absent file has none."""
    return [record for record in JournalReader(path).new() if record["event"] != UNREADABLE]


def _owner(path: Path) -> str:
    """The id of the trial whose journal this is, `trials/<id>/journal.jsonl`; empty for other journals."""
    return path.parent.name if path.parent.parent.name == "trials" else ""


def _closing(path: Path) -> bytes:
    """What the next writer has to write before its first record: the end of a torn line (protocol 4)."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return b""
        file.seek(-1, os.SEEK_END)
        return b"" if file.read(1) == b"\n" else TORN + b"\n"


def _last_number(path: Path, size: int | None) -> int:
    """The number of the last record that can be read in the first `size` bytes of a journal; 0 if there is none."""
    owner = _owner(path)
    for line in reversed(path.read_bytes()[:size].split(b"\n")[:-1]):
        if (record := record_of(line, owner)) is not None:
            return int(record.get(NUMBER, 0))
    return 0
