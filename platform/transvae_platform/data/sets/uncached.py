"""A new file that is written past the page cache, and hashed on its way to the disk.

A data set is larger than the memory as a rule: through the cache it would push out what others read, at the price of
copying every byte once more and of a fresh page for it (a virtual machine whose host has to give each page paid 0.5 ms
per 196 kB, against 0.02 ms past the cache). Where the system or the file system knows no such writes (macOS, some
network and memory file systems), the same writes go through the cache.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
from pathlib import Path
from types import TracebackType

PIECE = 8 * 2**20
"""Bytes per write: the smallest with the full speed of the disk (8 to 128 MiB were equal on one virtual machine)."""
BLOCK = 4096
"""Direct writes begin and end at whole blocks of the device, of at most this many bytes (open(2), O_DIRECT)."""
DIRECT = getattr(os, "O_DIRECT", 0)


class UncachedFile:
    """A file for writing, from its start to its end; `with` puts it on the disk, or closes it as it is on an error."""

    def __init__(self, path: Path) -> None:
        """Raises OSError where the file cannot be made; one that exists is written over."""
        self._file = _open(path)
        self._piece = memoryview(mmap.mmap(-1, PIECE))  # begins at a page, as direct writes want it
        self._filled = 0  # bytes of the piece
        self._sha256 = hashlib.sha256()
        self.size = 0
        self.closed = False  # pyarrow asks

    def write(self, data: bytes) -> int:
        """Takes any bytes-like object.

        Raises:
            OSError: no space is left, for instance.
        """
        left = memoryview(data).cast("B")
        taken = len(left)
        self._sha256.update(left)
        self.size += taken
        while len(left):
            part = left[: PIECE - self._filled]
            self._piece[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            left = left[len(part) :]
            if self._filled == PIECE:
                self._put(PIECE)
        return taken

    def hexdigest(self) -> str:
        """The SHA-256 of all that was written."""
        return self._sha256.hexdigest()

    def flush(self) -> None:
        """For pyarrow; nothing is on the disk before the end of the block."""

    def __enter__(self) -> UncachedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._put(-(-self._filled // BLOCK) * BLOCK)
                os.ftruncate(self._file, self.size)  # the last block was filled up
                os.fsync(self._file)
        finally:
            self.closed = True
            os.close(self._file)

    def _put(self, count: int) -> None:
        left = self._piece[:count]
        while len(left):
            try:
                left = left[os.write(self._file, left) :]
            except OSError as error:
                flags = fcntl.fcntl(self._file, fcntl.F_GETFL)
                if error.errno != errno.EINVAL or not flags & DIRECT:
                    raise
                # opened, but not to be written so, or a limit ends within a block: through the cache from here on
                fcntl.fcntl(self._file, fcntl.F_SETFL, flags & ~DIRECT)
        self._filled = 0


def _open(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        return os.open(path, flags | DIRECT, 0o666)
    except OSError as error:
        if error.errno != errno.EINVAL or not DIRECT:
            raise
        return os.open(path, flags, 0o666)
