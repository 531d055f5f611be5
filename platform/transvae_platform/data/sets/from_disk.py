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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds
from numpy.typing import NDArray

from transvae_platform.data.sets.gather import Piece

ENDS = 64 * 2**10
"""Bytes at the start and the end of a shard that opening it reads: schema, footer and small columns (assumption)."""
LOOKS = 4
"""Records of a batch that are looked at, 5 to 10 us each (assumption: where half are missing, most batches notice)."""


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


def ask_for_records(pieces: Sequence[Piece]) -> None:
    """The system begins to read these records, all of one shape, of mapped files."""
    if sys.platform == "linux":
        libc, size = ctypes.CDLL(None), _span(pieces[0][1])
        for address in _addresses(pieces).tolist():
            within = address % mmap.PAGESIZE
            libc.madvise(ctypes.c_void_p(address - within), ctypes.c_size_t(within + size), mmap.MADV_WILLNEED)


def some_are_missing(pieces: Sequence[Piece]) -> bool:
    """Whether a few of these records, spread over them, are not in memory; of files of others Linux says they are."""
    if sys.platform != "linux":
        return False
    addresses = _addresses(pieces)
    libc, page = ctypes.CDLL(None), ctypes.c_ubyte()
    for address in addresses[:: -(-len(addresses) // LOOKS)].tolist():
        libc.mincore(ctypes.c_void_p(address - address % mmap.PAGESIZE), ctypes.c_size_t(1), ctypes.byref(page))
        if not page.value & 1:
            return True
    return False


def _addresses(pieces: Sequence[Piece]) -> NDArray[np.int64]:
    """Where each record begins in memory."""
    return np.concatenate(
        [rows * records.strides[0] + records.__array_interface__["data"][0] for _, records, rows in pieces]
    )


def _span(records: NDArray[Any]) -> int:
    """Bytes from the first to behind the last one of a record, of which only the centre may be looked at."""
    low, high = byte_bounds(records[0])
    return int(high - low)
