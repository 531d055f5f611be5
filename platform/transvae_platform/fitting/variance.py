"""The error variance of a size mean about its law: pooled over families, or a family's own where it scatters more.

Statistics: residual variance SSE/df with df = sizes - 3. Each family is tested against the others, the noisiest of
them left aside so that two noisy families do not hide each other; the p value comes from seeded draws of equal
variances. The test is generous on purpose. With two degrees of freedom a family must scatter some 140 times (in
variance) more than another before the customary 5 % see it, and pooled intervals then cover 68 % where they claim 90 %;
a family that seems noisier at 35 % keeps its own, wider interval. What that costs where all families scatter alike: a
third of them have no use of the pool, and half-widths grow by a third on average (benchmarks/coverage.py).

Between sizes, misfit and luck of the learning rate usually exceed the noise of the seeds, so the variance is taken
from size means and not from seeds (measured by simulation, tests/fitting/test_coverage.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from transvae_platform.fitting.forms import FloatArray

# Stored losses carry rounding of about 1e-10 relative at best (assumption); a smaller variance would only say that
# noiseless toy data were fitted, and would make the interval ends a matter of round-off.
VARIANCE_FLOOR = 1e-20
# A family keeps its own variance below the first p value, and leaves the pool of the others below the second. Chosen
# among nine pairs by the coverage of intervals with known normal errors: nominal 90 % is met within 3 points for equal
# variances and for one, half or all but one family 1.5 to 5 times noisier, at 2 degrees of freedom and more (measured).
APART, OUTSIDE = 0.35, 0.05
DRAWS, SEED = 20_000, 0  # of equal variances: p values good to 0.003


@dataclass(frozen=True)
class Variance:
    """s2: variance of a size mean, relative to the loss (dimensionless); df: its degrees of freedom, >= 1."""

    s2: float
    df: int
    kind: Literal["own", "pooled"]
    families: int


@dataclass(frozen=True)
class Spread:
    """ratio: a family's variance over that of the others without their noisiest; p_value: of so large a ratio.

    apart: it keeps its own variance. outside: the pool of the others does without it.
    """

    ratio: float
    p_value: float
    apart: bool
    outside: bool


@dataclass(frozen=True)
class Variances:
    """Own variances, the pooled one (None below two families in the pool), and each family's spread test."""

    own: Mapping[str, Variance]
    pooled: Variance | None
    spread: Mapping[str, Spread]

    def of(self, family: str) -> Variance | None:
        """What the intervals of a family use; one without a law of its own has the pooled variance or none."""
        if self.pooled is None or (family in self.spread and self.spread[family].apart):
            return self.own.get(family)
        return self.pooled


def spread_test(s2: float, df: int, others: Sequence[tuple[float, int]]) -> Spread:
    """Whether a family scatters more than the others, given as (s2, df); there is at least one."""
    ordered = sorted(others, key=lambda other: other[1])
    s2_O, df_O = np.array(ordered).T
    ratio = s2 / float(_without_noisiest(s2_O[None], df_O)[0])
    null = _null(df, tuple(df for _, df in ordered))
    p_value = 1.0 - float(np.searchsorted(null, ratio)) / DRAWS
    return Spread(ratio, p_value, p_value < APART, p_value < OUTSIDE)


def choose_variances(sse_df: Mapping[str, tuple[float, int]]) -> Variances:
    """From {family: (SSE_min, df)}. One family has nothing to pool with: no pooled variance, no spread."""
    own = {f: Variance(max(sse / df, VARIANCE_FLOOR), df, "own", 1) for f, (sse, df) in sse_df.items()}
    if len(own) < 2:
        return Variances(own, None, {})
    spread = {
        f: spread_test(v.s2, v.df, [(o.s2, o.df) for other, o in own.items() if other != f]) for f, v in own.items()
    }
    pool = [v for f, v in own.items() if not spread[f].outside]
    if len(pool) < 2:
        return Variances(own, None, spread)
    df = sum(v.df for v in pool)
    return Variances(own, Variance(sum(v.s2 * v.df for v in pool) / df, df, "pooled", len(pool)), spread)


def _without_noisiest(s2_DO: FloatArray, df_O: FloatArray) -> FloatArray:
    """Pooled variance (D,) of the others; where there are several, the largest variance is left aside."""
    weight_DO = np.broadcast_to(df_O, s2_DO.shape).copy()
    if len(df_O) > 1:
        np.put_along_axis(weight_DO, np.argmax(s2_DO, axis=1)[:, None], 0.0, axis=1)
    return np.asarray((s2_DO * weight_DO).sum(1) / weight_DO.sum(1), dtype=np.float64)


@lru_cache(maxsize=64)
def _null(df: int, others: tuple[int, ...]) -> FloatArray:
    """Ratios of the spread test in ascending order, (DRAWS,), where all families scatter alike."""
    rng, df_O = np.random.default_rng(SEED), np.array(others, dtype=np.float64)
    own_D, others_DO = rng.chisquare(df, DRAWS) / df, rng.chisquare(df_O, (DRAWS, len(others))) / df_O
    return np.sort(own_D / _without_noisiest(others_DO, df_O))
