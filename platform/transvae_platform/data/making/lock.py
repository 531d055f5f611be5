"""Locks between processes that leave no file behind.

Protocol
1. A lock is an flock on a file beside what it guards; the system releases it when its process dies.
2. Who holds it removes the file before letting go. Who gets a lock on a file that is no longer the one at the path has
   locked nothing, and begins again; so a file left by a killed process does no harm, and the next holder removes it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock at a path; yields False, at once, if another process holds it and `wait` is off.

    Raises:
        OSError: the file cannot be made.
    """
    while True:
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            if not _is_at(file.fileno(), path):
                continue
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)
            return


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
