"""Records of mapped shards, copied into one array."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Empty = Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]]
"""Gives an array to write to: `np.empty`, or memory that was used before."""

Piece = tuple[NDArray[np.int64], NDArray[Any], NDArray[np.int64]]
"""(places in the batch, (n, *shape) records of one shard, which of them go there)."""


def gather(count: int, pieces: Iterable[Piece], empty: Empty = np.empty) -> NDArray[Any]:
    """(count, *shape): one copy of memory per record, from wherever it lies.

    One shard is let go of before the next one is asked for; `pieces` must not keep it either.
    """
    out: NDArray[Any] | None = None
    for places, records, rows in pieces:
        if out is None:
            out = empty((count, *records.shape[1:]), records.dtype)
        for place, row in zip(places.tolist(), rows.tolist(), strict=True):
            out[place] = records[row]
        del records
    assert out is not None, "a batch has samples"
    return out
