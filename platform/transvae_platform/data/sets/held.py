"""Files of a cache that stay while somebody reads them: a shared flock that lives as long as the mapping.

A lock made by flock belongs to an open file, not to a process: it ends when the last descriptor of that file is closed.
`mmap` keeps a descriptor of its own until the memory is let go, so whoever looks at the bytes, through whatever views,
holds the lock, and nobody has to let go of it by hand.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa


def mapped_while_held(file: BinaryIO) -> pa.Buffer:
    """The bytes of an open file under a shared lock; an exclusive one that it had becomes that.

    Raises:
        ValueError: the file is empty.
    """
    fcntl.flock(file, fcntl.LOCK_SH)
    return pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def removed_unless_held(path: Path) -> bool:
    """Remove a file that nobody reads or writes under a lock; whether it is gone."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True


def is_at(file: BinaryIO, path: Path) -> bool:
    """Whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
