"""Records out of any number of mapped shards, copied in one call.

The shards of a process lie in one address space, so a batch is one gather over it, whichever shards its records are
of. What keeps that safe: addresses come from `ShardFile.where` alone, which compares the columns with the number and
size of the records that the manifest promises; and `Rows` holds the shards it points into.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from transvae_platform.data.sets.shards import ShardFile

Empty = Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]]
"""Gives an array to write to: `np.empty`, or memory that was used before."""


@dataclass(frozen=True)
class Rows:
    """Where the records of some samples lie in memory."""

    addresses: NDArray[np.int64]
    """(B,)"""
    shape: tuple[int, ...]
    """Of a record."""
    dtype: np.dtype[Any]
    held: Sequence[ShardFile]
    """Mapped as long as this lives; none if the reader keeps its shards mapped anyway."""
    centre: int | None = None
    """Of records that are images: `copy` gives their central square of this size."""

    def copy(self, empty: Empty = np.empty) -> NDArray[Any]:
        """The records, (B, *shape), in an array that `empty` gives."""
        out = empty((len(self.addresses), *self.shape), self.dtype)
        if out.size:
            low, high = int(self.addresses.min()), int(self.addresses.max())
            first = np.ctypeslib.as_array((ctypes.c_uint8 * 1).from_address(low))
            rows_B = out.reshape(len(out), -1).view(np.uint8)
            memory = np.lib.stride_tricks.as_strided(first, (high - low + 1, rows_B.shape[1]), (1, 1))
            # NumPy's own gather takes no `out` for rows that overlap, and fresh pages cost more than the copying
            indices = torch.from_numpy(self.addresses - low)
            torch.index_select(torch.from_numpy(memory), 0, indices, out=torch.from_numpy(rows_B))
        if self.centre is None:
            return out
        top, left = ((side - self.centre) // 2 for side in self.shape[:2])
        return np.ascontiguousarray(out[:, top : top + self.centre, left : left + self.centre])
