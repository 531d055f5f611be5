"""Memory for batches that is used again, because fresh memory costs more than what is copied into it.

glibc maps an array above 32 MB anew every time, and each of its pages is cleared at the first touch: a batch of 256
images of 256 x 256 then cost 2 to 5 times its copying (one loaded machine, 2 cores, not yet in `benchmarks/`). What
glibc maps also begins 16 bytes into a page, where copying an image took 1.2 to 2.8 times as long as to a whole page.
"""

from __future__ import annotations

import math
import sys
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNUSED = 2
"""References to an array that only `Buffers` keeps: its list's, and the argument of `getrefcount`."""
SMALL = 128 * 1024
"""Bytes below which glibc gives memory of its heap, which is neither cleared nor mapped (its M_MMAP_THRESHOLD)."""
PAGE = 4096
"""Bytes at whose multiples a batch begins: a page of x86 and of most arm64 systems, whole cache lines on any."""


class Buffers:
    """Gives arrays whose memory nobody else holds: a batch that somebody keeps, or a view of it, never changes."""

    def __init__(self) -> None:
        self._kept: list[NDArray[np.uint8]] = []
        self._lock = Lock()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array with anything in it, as from `np.empty`."""
        size = math.prod(shape) * dtype.itemsize
        if size < SMALL:
            return np.empty(shape, dtype)
        with self._lock:
            free = [sys.getrefcount(self._kept[place]) == UNUSED for place in range(len(self._kept))]
            fits = [kept.size == size + PAGE for kept in self._kept]
            fitting = [place for place, good in enumerate(zip(free, fits, strict=True)) if all(good)]
            memory = self._kept[fitting[0]] if fitting else np.empty(size + PAGE, np.uint8)
            # of what lies free only that size stays: a reader's batches are all of one
            self._kept = [kept for kept, is_free, fit in zip(self._kept, free, fits, strict=True) if fit or not is_free]
            if not fitting:
                self._kept.append(memory)
            start = -memory.ctypes.data % PAGE  # NumPy's views all refer to `memory` itself, which is what is counted
            return memory[start : start + size].view(dtype).reshape(shape)
