"""Which family is better at equal size, or at equal compute? Ratios of losses at a common x, without a law.

The size means are interpolated linearly in ln L over ln x, never beyond a family's own sizes. Statistics: t interval
for ln(L_first/L_second) with the variance s2 of a size mean; at a share t of the way between two sizes the mean has
variance s2 ((1 - t)^2 + t^2). Sizes with the same letter are not matched (T has 44 M to 70 M parameters), and equal
parameters are not equal compute (a CNN costs 11 times a ViT of its size): x_name says which of them is equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from scipy.special import stdtr, stdtrit

from transvae_platform.fitting.compare import Contrast, settle
from transvae_platform.fitting.intervals import Interval
from transvae_platform.fitting.table import FamilyTable
from transvae_platform.fitting.variance import Variance


def compare_ratios(
    tables: Sequence[FamilyTable], variances: Mapping[str, Variance | None], level: float, x_name: str
) -> tuple[Contrast, ...]:
    """All pairs at the middle (geometric) and at the upper end of the range of x that both have."""
    usable = [t for t in tables if len(t.sizes) >= 2]
    found = []
    for a, b in combinations(usable, 2):
        low, high = max(a.x[0], b.x[0]), min(a.x[-1], b.x[-1])
        if low < high:
            probes = (math.sqrt(low * high), high)
            found += [_ratio(a, b, x, variances[a.family], variances[b.family], level, x_name) for x in probes]
    return settle(found, level)


def _ratio(
    a: FamilyTable, b: FamilyTable, x: float, s2_a: Variance | None, s2_b: Variance | None, level: float, x_name: str
) -> Contrast:
    (log_a, share_a), (log_b, share_b) = _at(a, x), _at(b, x)
    difference = log_a - log_b
    question = f"ln of the loss at {x_name} = {x:.3g}"
    if s2_a is None or s2_b is None:
        unknown = "cannot tell: the scatter of the sizes is unknown"
        return Contrast(question, a.family, b.family, difference, None, None, None, unknown)
    parts = (s2_a.s2 * share_a, s2_b.s2 * share_b)
    df: float = s2_a.df
    if "own" in (s2_a.kind, s2_b.kind):  # Welch and Satterthwaite
        df = sum(parts) ** 2 / (parts[0] ** 2 / s2_a.df + parts[1] ** 2 / s2_b.df)
    sd = math.sqrt(sum(parts))
    half = float(stdtrit(df, (1 + level) / 2)) * sd
    better, worse = (b.family, a.family) if difference > 0 else (a.family, b.family)
    gap = 100 * -math.expm1(-abs(difference))
    return Contrast(
        question, a.family, b.family, difference,
        Interval(difference - half, difference + half, level, int(df), s2_a.kind),
        float(2 * stdtr(df, -abs(difference) / sd)), None,
        f"the loss of {better} is {gap:.2g} % below that of {worse} at {x_name} = {x:.3g}",
    )  # fmt: skip


def _at(table: FamilyTable, x: float) -> tuple[float, float]:
    """Interpolated ln L at x, and its variance in units of s2."""
    log_x, log_y, at = np.log(table.x), np.log(table.y), math.log(x)
    i = int(np.clip(np.searchsorted(log_x, at, side="right") - 1, 0, len(log_x) - 2))
    t = min(max((at - log_x[i]) / (log_x[i + 1] - log_x[i]), 0.0), 1.0)
    return float((1 - t) * log_y[i] + t * log_y[i + 1]), float((1 - t) ** 2 + t**2)
