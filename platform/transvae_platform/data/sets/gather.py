"""Records of mapped shards, copied into one array."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Empty = Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]]
"""Gives an array to write to: `np.empty`, or memory that was used before."""


def stack(rows: Sequence[NDArray[Any]], empty: Empty = np.empty) -> NDArray[Any]:
    """(B, *shape) of B views (*shape): one copy of memory each, from wherever it lies."""
    out = empty((len(rows), *rows[0].shape), rows[0].dtype)
    for place, row in enumerate(rows):
        out[place] = row
    return out
