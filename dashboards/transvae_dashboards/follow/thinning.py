"""Fewer points of a curve without losing an extreme: of every bin the lowest and the highest, and both ends.

Bins are the union of equally wide and equally wide logarithmic ones, so that a curve survives either axis. Points of a
curve that are kept are points of the journal: nothing is averaged or interpolated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def edges(low: float, high: float, bins: int) -> Floats:
    """The inner edges of bins over [low, high]: two thirds of them equally wide, one third on a log scale."""
    linear = np.linspace(low, high, max(2 * bins // 3, 1) + 1)[1:-1]
    start = max(low, high / 1e6)
    if not 0 < start < high:
        return linear
    return np.union1d(linear, np.geomspace(start, high, max(bins // 3, 1) + 1)[1:-1])


def kept(x: Floats, y: Floats, bins: int) -> NDArray[np.int64]:
    """Which points to keep of a curve with ascending x and finite y: at most 2 per bin and both ends, in order."""
    if len(x) <= 2 * bins:
        return np.arange(len(x))
    bin_of = np.searchsorted(edges(float(x[0]), float(x[-1]), bins), x, side="right")
    order = np.lexsort((y, bin_of))
    first = np.flatnonzero(np.diff(bin_of[order], prepend=-1))
    last = np.append(first[1:], len(x)) - 1
    return np.unique(np.concatenate([order[first], order[last], [0, len(x) - 1]]))
