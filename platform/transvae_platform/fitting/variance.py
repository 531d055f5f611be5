"""The error variance of a size mean about its law, own or pooled over families, and the test that allows pooling.

Statistics: residual variance SSE/df with df = sizes - 3; Hartley's F-max test for the equality of variances, exact
also for unequal df. Between sizes, misfit and luck of the learning rate usually exceed the noise of the seeds, so the
variance is taken from size means and not from seeds (measured by simulation, tests/fitting/test_coverage.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import gammainc, gammaln

# Stored losses carry rounding of about 1e-10 relative at best (assumption); a smaller variance would only say that
# noiseless toy data were fitted, and would make the interval ends a matter of round-off.
VARIANCE_FLOOR = 1e-20
# Level of the spread test (assumption: the customary 5 %).
SPREAD_LEVEL = 0.05


@dataclass(frozen=True)
class Variance:
    """s2: variance of a size mean, relative to the loss (dimensionless); df: its degrees of freedom, >= 1."""

    s2: float
    df: int
    kind: Literal["own", "pooled"]
    families: int


@dataclass(frozen=True)
class Spread:
    """ratio: largest over smallest own variance; p_value of F-max; passed: pooling is not contradicted."""

    ratio: float
    p_value: float
    passed: bool


def spread_test(s2: Sequence[float], df: Sequence[int]) -> Spread:
    """Hartley's F-max. A pass is weak evidence: with 4 families and df 2 a ratio below 142 passes."""
    ratio = max(s2) / min(s2)
    # P(max/min <= h) = sum_i integral f_i(t) prod_{j != i} [F_j(h t) - F_j(t)] dt, with family i holding the minimum;
    # t = e^z tames the singular density of df = 1 at 0.
    z = np.linspace(-45.0, 6.0, 6001)
    t = np.exp(z)
    below = 0.0
    for i, nu in enumerate(df):
        half = nu / 2.0
        density = np.exp(half * np.log(half) - gammaln(half) + half * z - half * t)
        for j, nu_other in enumerate(df):
            if j != i:
                half_j = nu_other / 2.0
                density = density * (gammainc(half_j, half_j * ratio * t) - gammainc(half_j, half_j * t))
        below += float(np.trapezoid(density, z))
    p_value = min(max(1.0 - below, 0.0), 1.0)
    return Spread(ratio, p_value, p_value >= SPREAD_LEVEL)


def choose_variances(
    sse_df: Mapping[str, tuple[float, int]],
) -> tuple[dict[str, Variance], Variance | None, Spread | None]:
    """From {family: (SSE_min, df)}: own variances, the pooled one (None if it is not allowed), the spread test.

    One family has nothing to pool with: pooled and spread are None.
    """
    own = {f: Variance(max(sse / df, VARIANCE_FLOOR), df, "own", 1) for f, (sse, df) in sse_df.items()}
    if len(own) < 2:
        return own, None, None
    spread = spread_test([v.s2 for v in own.values()], [v.df for v in own.values()])
    if not spread.passed:
        return own, None, spread
    df = sum(v.df for v in own.values())
    s2 = sum(v.s2 * v.df for v in own.values()) / df
    return own, Variance(s2, df, "pooled", len(own)), spread
