"""Does the loss fall from size to size? Isotonic regression (pool adjacent violators) of the size means."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from transvae_platform.fitting.table import FamilyTable
from transvae_platform.fitting.variance import Variance

# A rise must exceed two standard deviations of the difference of two means to be flagged (assumption: customary).
SIGMAS = 2.0


@dataclass(frozen=True)
class Monotone:
    """largest_rise and threshold are ln ratios (about relative); threshold is None when the noise is unknown.

    flagged: some size is worse than a smaller one by more than noise explains.
    """

    falling: bool
    flagged: bool
    largest_rise: float
    threshold: float | None
    sentence: str


def check_monotone(table: FamilyTable, variance: Variance | None) -> Monotone:
    """Noise from seeds where there are several, else from the misfit variance of the law. Needs at least two sizes."""
    y = np.asarray(table.y)
    fitted = isotonic_regression(y, increasing=False).x
    moved = [s.size for s, a, b in zip(table.sizes, y, fitted, strict=True) if not math.isclose(a, b, rel_tol=1e-12)]
    log_y = np.log(y)
    rises = log_y - np.minimum.accumulate(log_y)
    worst = int(np.argmax(rises))
    rise, threshold = float(rises[worst]), None
    if table.seed_sd is not None:
        fewest = sorted(len(s.values) for s in table.sizes)[:2]
        threshold = SIGMAS * table.seed_sd * math.sqrt(sum(1.0 / n for n in fewest))
    elif variance is not None:
        threshold = SIGMAS * math.sqrt(2.0 * variance.s2)
    if not moved:
        return Monotone(True, False, rise, threshold, "the loss falls, or stays equal, from each size to the next")
    text = f"the loss rises by up to {100 * math.expm1(rise):.2g} % towards {table.sizes[worst].size}"
    if threshold is None:
        return Monotone(False, False, rise, None, text + "; one seed per size, so whether this is noise is unknown")
    flagged = rise > threshold
    limit = f"(limit {100 * math.expm1(threshold):.2g} %)"
    text += f", more than noise explains {limit}" if flagged else f", which noise explains {limit}"
    return Monotone(False, flagged, rise, threshold, text)
