"""Records that are not in memory yet: the system is asked for all of them at once.

A mapped record comes when it is first touched, with what the system reads around it (128 KiB as a rule, 8 MiB on some
virtual machines), and whoever touches it waits. 256 latents from anywhere on such a disk came in 1.1 to 1.9 s so, and
in 0.02 to 0.05 s where they alone were asked for together (2 cores under other load, Linux 6.18, ext4). What lies in
memory already needs no asking, which costs a call per record.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from transvae_platform.data.sets.gather import Piece

ENDS = 64 * 2**10
"""Bytes at the start and the end of a shard that opening it reads: schema, footer and small columns (assumption)."""
LOOKS = 16
"""Records of a batch that are looked at (assumption): where half of a batch is missing, 1 of 65,000 looks miss that."""


def ask_for_ends(path: Path) -> None:
    """The system begins to read what opening a shard needs; a file that is not there is left to who opens it."""
    if not hasattr(os, "posix_fadvise"):  # macOS
        return
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        for start in (0, max(0, os.fstat(file).st_size - ENDS)):
            os.posix_fadvise(file, start, ENDS, os.POSIX_FADV_WILLNEED)
    finally:
        os.close(file)


def ask_for_records(pieces: Iterable[Piece]) -> None:
    """The system begins to read these records of mapped files."""
    if sys.platform == "linux":
        for address, size in _extents(pieces):
            _libc().madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), mmap.MADV_WILLNEED)


def some_are_missing(pieces: Sequence[Piece]) -> bool:
    """Whether a few of these records, spread over them, are not in memory; of files of others Linux says they are."""
    if sys.platform != "linux":
        return False
    extents = list(_extents(pieces))
    return any(not _first_page_is_here(address) for address, _ in extents[:: -(-len(extents) // LOOKS)])


def _first_page_is_here(address: int) -> bool:
    page = ctypes.c_ubyte()
    _libc().mincore(ctypes.c_void_p(address), ctypes.c_size_t(1), ctypes.byref(page))
    return bool(page.value & 1)


def _extents(pieces: Iterable[Piece]) -> Iterator[tuple[int, int]]:
    """(address, bytes) of each record, from the start of its first page."""
    for _, records, rows in pieces:
        start, stride, size = records.ctypes.data, records.strides[0], records[:1].nbytes
        for row in rows.tolist():
            within = (start + row * stride) % mmap.PAGESIZE
            yield start + row * stride - within, within + size


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
