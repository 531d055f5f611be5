"""A file that is held by flock: who has it open holds it, whatever happens to its name."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO


def flock(file: IO[str], kind: int = fcntl.LOCK_EX) -> bool:
    """Whether no other process that flock reaches holds the file; then this one does."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without flock: whoever asks must judge by something else
        return True
    return True


def is_held(path: Path) -> bool:
    """Whether a process that flock reaches holds the file.

    For an instant it is held by the one who asks: whoever wants it just then tries again.
    """
    try:
        with path.open() as file:
            return not flock(file, fcntl.LOCK_SH)
    except OSError:
        return False


def is_at(file: IO[str], path: Path) -> bool:
    """Whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def put_back(path: Path, text: str, word: str) -> IO[str]:
    """Make a file that was removed again, held from its first moment on; `word` is one that no other process has.

    Raises:
        FileExistsError: another process was quicker.
        OSError: there is no room, or the file system has no hard links.
    """
    made = path.with_name(f".{path.name}.{word}")
    file = made.open("w")
    try:
        flock(file)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
        os.link(made, path)
    except BaseException:
        file.close()
        raise
    finally:
        made.unlink(missing_ok=True)
    return file
