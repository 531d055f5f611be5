"""The lease of a study: one process at a time runs it, and shows that it lives in a way no wrong clock can hide.

Protocol
1. The holder keeps an flock on the file `lock` of the study's folder, and has written its process and a token of its
   own into it. It gives the token to its workers.
2. A thread of the holder increases a counter in `lease.json` every BEAT_SECONDS; the file is replaced as a whole. It
   also says which process on which host holds the lease since when, for people: no clock time in it is ever compared.
3. A held flock means that the holder lives, also when its home is full and the counter stands still. A free one proves
   nothing, because flock does not reach across the nodes of some file systems and does not exist on others: then the
   counter decides. Whoever wants the lease looks at it again and again, at least BEAT_SECONDS apart by its own
   monotonic clock; a counter that has moved is alive.
4. The lease is free when the flock is free and
   a. `lease.json` is absent: nobody held the lease, or its holder released it; or
   b. the holder ran in this boot of this machine, and its process (number and start time) exists no more; or
   c. the counter stood still in STILL_LOOKS looks, one after the other.
5. To take over is to write a new token into `lock`. A worker compares that file with its own token before every record:
   one that outlived a killed submission stops as soon as the next one begins. Every attempt at a trial does the same
   with the file `attempt` of the trial's folder: a worker that wakes up late, on a node that was given up, finds that
   another one has its place.
6. Where no flock separates two that take over at once, the token written last stands. The other one finds that out
   before its next record and before its next beat, and writes nothing more.
7. To release is to remove `lease.json` and then to give up the flock.
8. A flock is on the file, not on its name. Who wants the lease makes no `lock` before the lease is free, and takes none
   whose name another file has by now. A holder whose `lock` was removed puts it back at its next beat, unless another
   one stands there; until then its workers wait, for LOST_BEATS at most.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

from transvae_platform.errors import UserError
from transvae_platform.study import lockfile

BEAT_SECONDS = 2.0
STILL_LOOKS = 10
"""20 s: shared file systems and busy processes pause for seconds (assumption); flock shortens it on one machine."""
LOST_BEATS = 3
"""That a removed `lock` is waited for: its holder puts it back within one, if its disk is not too busy (assumption)."""


class SupersededError(UserError):
    """A later submission, or attempt at the trial, has taken over; this process must write nothing more."""


@dataclass(frozen=True)
class Fence:
    """Lets a writer pass only while its submission is the study's newest, and its attempt the trial's (protocol 5)."""

    lock: Path
    token: str
    around: Fence | None = None
    """For an attempt at a trial: the fence of its submission."""

    def check(self) -> None:
        """Let the newest pass.

        Raises:
            SupersededError: a later submission or attempt has begun.
            UserError: nobody can tell, because the file was removed and is not put back (protocol 8).
        """
        if self.around is not None:
            self.around.check()
        end = time.monotonic() + LOST_BEATS * BEAT_SECONDS
        while (newest := self.newest()) is None:
            if time.monotonic() > end:
                raise UserError(f"{self.lock} was removed - submit again: the study continues")
            time.sleep(BEAT_SECONDS / 10)
        if newest != self.token:
            kind = "submission" if self.around is None else "attempt"
            raise SupersededError(
                f"{self.lock.parent.name}: a later {kind} has taken over - follow it with the same command"
            )

    def newest(self) -> str | None:
        """The token that was written last; None if the file was removed, empty while one is being written."""
        try:
            return "".join(self.lock.read_text().split()[-1:])
        except FileNotFoundError:
            return None

    def attempt(self, folder: Path) -> Fence:
        """The fence of a new attempt at the trial in a folder: from here on no earlier one passes.

        Raises:
            SupersededError: a later submission has begun.
            UserError: the folder cannot be written.
        """
        self.check()
        fence = Fence(folder / "attempt", uuid.uuid4().hex, around=self)
        written = fence.lock.with_name(f".attempt.{fence.token}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            written.write_text(fence.token)
            written.replace(fence.lock)
        except OSError as error:
            with suppress(OSError):
                written.unlink(missing_ok=True)
            raise UserError(
                f"{folder} cannot be written ({error.strerror or error}) - make room, then submit again: the study "
                "continues"
            ) from None
        return fence


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, as `lease.json` says."""

    token: str
    pid: int
    started: str
    """When the process started, in the kernel's own unit: tells it from a later one with the same number."""
    host: str
    machine: str
    """The boot and the process namespace that `pid` counts in."""
    since: float
    """Seconds since the epoch, for people."""
    beat: int

    @property
    def here(self) -> bool:
        """Whether this process could see the holder's."""
        return self.machine == _machine()

    @property
    def dead(self) -> bool:
        """Whether the holder certainly lives no more (protocol 4b)."""
        return self.here and self.started != _start_time(self.pid)


class Lease:
    """A held lease: beats until it is released. A context manager that gives the fence for journals and workers."""

    def __init__(self, lock: Path, file: IO[str]) -> None:
        """Take over; `file` is `lock`, opened and, where that exists, under flock."""
        self.fence = Fence(lock, uuid.uuid4().hex)
        self._path, self._file = lock.with_name("lease.json"), file
        pid = os.getpid()
        self._holder = Holder(
            self.fence.token, pid, _start_time(pid), platform.node(), _machine(), round(time.time(), 3), 0
        )
        file.truncate(0)
        file.write(self._said)
        file.flush()
        os.fsync(file.fileno())  # other nodes see it from here on
        self.problem: str | None = None
        """Why the counter cannot be increased, None while it is: the home takes no more."""
        self._write()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def __enter__(self) -> Fence:
        return self.fence

    def __exit__(self, *exception: object) -> None:
        self.release()

    def release(self) -> None:
        """Let the next one have it at once."""
        self._end.set()
        self._thread.join()
        with suppress(SupersededError):  # then the file is another one's
            self._hold_on()
            self.fence.check()
            self._path.unlink(missing_ok=True)
        self._file.close()

    @property
    def _said(self) -> str:
        return f"{self._holder.pid} {self.fence.token}"

    def _hold_on(self) -> None:
        """Have the lock under its name again if somebody removed it (protocol 8)."""
        if not lockfile.is_at(self._file, self.fence.lock):
            with suppress(FileExistsError):  # whose it is, the fence will tell
                file = lockfile.put_back(self.fence.lock, self._said, self.fence.token)
                self._file.close()
                self._file = file

    def _beat(self) -> None:
        while not self._end.wait(BEAT_SECONDS):
            try:
                self._hold_on()
                if self.fence.newest() not in (None, self.fence.token):
                    return  # superseded
                self._holder = replace(self._holder, beat=self._holder.beat + 1)
                self._write()
                self.problem = None
            except OSError as error:  # a full disk, a server that is away: the next beat tries again
                self.problem = f"{self._path.parent} cannot be written: {error.strerror or error}"

    def _write(self) -> None:
        temporary = self._path.with_name(f".lease.{self.fence.token}")
        temporary.write_text(json.dumps(asdict(self._holder)))
        temporary.replace(self._path)


class Candidate:
    """Wants a study's lease. Asked again and again, it judges the holder by what it saw before (protocol 3, 4)."""

    def __init__(self, folder: Path, now: Callable[[], float] = time.monotonic) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock, self._now = folder / "lock", now
        self._seen: tuple[str, int] | None = None
        self._looked, self._still = -BEAT_SECONDS, 0
        self.holder: Holder | None = None
        """Who held it at the last attempt; None where nothing is known of them."""

    def attempt(self) -> Lease | None:
        """The lease if it is free, else None."""
        file = self._opened("r+")
        free = file is None or (lockfile.flock(file) and lockfile.is_at(file, self._lock))
        self.holder = read_holder(self._lock.parent)
        if free and self._is_over():
            file = file or self._opened("x+")
            if file is not None and lockfile.flock(file):
                return Lease(self._lock, file)
        if file is not None:
            file.close()
        return None

    def _opened(self, mode: str) -> IO[str] | None:
        """The lock; None if there is none yet, or, with `x+`, another process has just made one."""
        try:
            return self._lock.open(mode)
        except (FileNotFoundError, FileExistsError):
            return None

    def _is_over(self) -> bool:
        if _absent(self._lock.with_name("lease.json")) or (self.holder and self.holder.dead):
            return True
        # what cannot be read (an interrupted server, a file that a power cut emptied) is a look that saw no movement
        seen = (self.holder.token, self.holder.beat) if self.holder else self._seen
        if seen != self._seen:
            self._seen, self._looked, self._still = seen, self._now(), 0
        elif self._now() - self._looked >= BEAT_SECONDS:
            # looks are counted, not seconds: a reader that was held up for minutes has still looked only once
            self._looked, self._still = self._now(), self._still + 1
        return self._still >= STILL_LOOKS


def wait_for_lease(folder: Path, waiting: Callable[[Holder | None], None]) -> Lease:
    """The lease of the study in a folder; while another process holds it, `waiting` is told who, every few seconds."""
    candidate = Candidate(folder)
    while (lease := candidate.attempt()) is None:
        waiting(candidate.holder)
        time.sleep(BEAT_SECONDS)
    return lease


def read_holder(folder: Path) -> Holder | None:
    """Who holds a study's lease by `lease.json`, alive or not; None if it was released, or is not to be read."""
    try:
        return Holder(**json.loads((folder / "lease.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def life(folder: Path) -> str | None:
    """How a study's holder shows that it lives; looks for at most two beats, changes nothing.

    `beats`: its counter moves. `holds`: it does not, but the holder has the flock: its home is full, or it was stopped.
    """
    first = read_holder(folder)
    if first is None or first.dead:
        return None
    end = time.monotonic() + 2 * BEAT_SECONDS
    while time.monotonic() < end:
        time.sleep(BEAT_SECONDS / 10)
        if read_holder(folder) not in (first, None):
            return "beats"
    return "holds" if lockfile.is_held(folder / "lock") else None


def _absent(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _machine() -> str:
    """The boot and the process namespace of this process, or nothing where the kernel does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{platform.node()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{platform.node()} {uuid.uuid4()}"  # equal to none: only the counter can tell


def _start_time(pid: int) -> str:
    """The start time of a process in clock ticks since boot; empty if there is none."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if after_name[0] == "Z" else after_name[19]  # a zombie has ended
