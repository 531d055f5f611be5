"""The lower envelope of many models over compute, and a line through it: y falls as a power of x, with no floor.

Two envelopes: the least value in each of equally wide bins of log10 x (the published OpenCLIP figure), or the running
minimum. An envelope chooses the luckiest runs, so its line has no interval: what it says is checked on held-out cells.
"""

from __future__ import annotations

import numpy as np

from transvae_platform.fitting.laws.forms import FloatArray
from transvae_platform.fitting.views.line import Line, fit_line

# The last bin ends this far beyond the largest log10 x, so that the largest point lies inside it (the published bins).
BEYOND = 0.1


def binned_envelope(x: FloatArray, y: FloatArray, bins: int) -> tuple[FloatArray, FloatArray]:
    """Bin centres and the least y of each bin that holds points."""
    log_x = np.log10(x)
    edges = np.linspace(log_x.min(), log_x.max() + BEYOND, bins + 1)
    number = np.digitize(log_x, edges) - 1
    filled = [b for b in range(bins) if (number == b).any()]
    centres = np.array([10 ** ((edges[b] + edges[b + 1]) / 2) for b in filled])
    return centres, np.array([y[number == b].min() for b in filled])


def running_envelope(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The points that are better than every one at less x."""
    order = np.lexsort((y, x))
    best = np.minimum.accumulate(y[order])
    new = np.concatenate(([True], best[1:] < best[:-1]))
    return x[order][new], y[order][new]


def envelope_line(x: FloatArray, y: FloatArray, bins: int | None) -> tuple[Line, int]:
    """The line through the envelope and how many points that has; bins None is the running minimum."""
    points = running_envelope(x, y) if bins is None else binned_envelope(x, y, bins)
    return fit_line(*points), len(points[0])
