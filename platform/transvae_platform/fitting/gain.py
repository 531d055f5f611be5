"""How much a family gains over its sizes: a contrast of two means that needs no law.

Statistics: t interval for ln(L_first/L_last) with the variance s2 of a size mean, own or pooled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import stdtrit

from transvae_platform.fitting.intervals import Interval
from transvae_platform.fitting.table import FamilyTable
from transvae_platform.fitting.variance import Variance


@dataclass(frozen=True)
class Gain:
    """total = ln(L_first/L_last), smallest to largest size; per_decade = total per tenfold x (sizes with the same
    label differ in x between families). The interval is for `total`; None where no variance is known."""

    first: str
    last: str
    total: float
    per_decade: float
    decades: float
    interval: Interval | None
    variance: Variance | None


def gain_of(table: FamilyTable, variance: Variance | None, level: float) -> Gain | None:
    """None below two sizes. The variance of the contrast of two size means is 2 s2."""
    if len(table.sizes) < 2:
        return None
    total = math.log(table.y[0] / table.y[-1])
    decades = math.log10(table.x[-1] / table.x[0])
    interval = None
    if variance is not None:
        half = float(stdtrit(variance.df, (1 + level) / 2)) * math.sqrt(2 * variance.s2)
        interval = Interval(total - half, total + half, level, variance.df, variance.kind)
    return Gain(table.sizes[0].size, table.sizes[-1].size, total, total / decades, decades, interval, variance)
