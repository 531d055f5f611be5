"""Which family improves more with size? First by the gain contrast, which needs no law, then by the exponents.

Statistics: t tests on ln(L_first/L_last) with the variance of a size mean (own variances: Welch-Satterthwaite df);
profile-F test of a common alpha, each family's errors in units of its own or the pooled variance (where they differ, F
has the smaller of the two df, which is on the safe side); Holm's correction over the pairs of families, each of the
two questions for itself. Decisions at Holm-adjusted two-sided p < 1 - level, so level 0.90 is one-sided 5 %.
The gain contrast is the sharper tool: at five sizes it decides cases that alpha cannot (measured by simulation,
tests/fitting/test_compare.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import fdtrc, fdtri, stdtr, stdtrit

from transvae_platform.fitting.forms import FloatArray
from transvae_platform.fitting.gain import Gain
from transvae_platform.fitting.intervals import AlphaSet, Interval, alpha_interval, alpha_set, nodes_of
from transvae_platform.fitting.solve import ALPHA_MAX, ALPHA_MIN, Problem, Solution, project
from transvae_platform.fitting.table import FamilyTable
from transvae_platform.fitting.variance import Variance

# Families are compared where their size ranges share at least half of each in ln x (assumption): gains of disjoint
# ranges say nothing about each other, because a law with a floor flattens.
MIN_SHARED_RANGE = 0.5
# Grid that brackets the common alpha of two families; a bounded search then refines it.
SCAN_POINTS = 400


@dataclass(frozen=True)
class Contrast:
    """first minus second with its interval, raw and Holm-adjusted two-sided p, and the answer in words."""

    question: str
    first: str
    second: str
    difference: float | None
    interval: Interval | None
    p_value: float | None
    p_holm: float | None
    answer: str
    claim: str = ""
    """What is said if the difference survives Holm's correction; empty where nothing was tested."""


@dataclass(frozen=True, eq=False)
class AlphaFit:
    """What the comparison of exponents needs of one family."""

    family: str
    problem: Problem
    solution: Solution
    variance: Variance


def compare_gains(
    tables: Sequence[FamilyTable], gains: dict[str, Gain | None], level: float, x_name: str
) -> tuple[Contrast, ...]:
    """All pairs of families, on the gain per tenfold x."""
    return settle([_gain_contrast(a, b, gains, level, x_name) for a, b in combinations(tables, 2)], level)


def compare_alphas(fits: Sequence[AlphaFit], level: float) -> tuple[Contrast, ...]:
    """All pairs of families with a fitted alpha and a variance; where an interval is unbounded there is no test."""
    return settle([_alpha_contrast(a, b, level) for a, b in combinations(fits, 2)], level)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment; the caller may pass the p values of several metrics at once."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted


def settle(contrasts: Sequence[Contrast], level: float) -> tuple[Contrast, ...]:
    """Adjusts the tested contrasts together; an answer that does not survive becomes 'cannot tell'.

    May be repeated with more contrasts, for instance those of further metrics.
    """
    adjusted = iter(holm([c.p_value for c in contrasts if c.p_value is not None]))
    final = []
    for c in contrasts:
        if c.p_value is not None:
            p, claim = next(adjusted), c.claim or c.answer
            unsure = f"cannot tell: {c.first} and {c.second} differ by no more than the noise"
            answer = claim if p < 1 - level else unsure
            c = replace(c, p_holm=p, answer=f"{answer} (Holm p = {p:.2g})", claim=claim)
        final.append(c)
    return tuple(final)


def _gain_contrast(
    a: FamilyTable, b: FamilyTable, gains: dict[str, Gain | None], level: float, x_name: str
) -> Contrast:
    blank = Contrast(f"gain per tenfold {x_name}", a.family, b.family, None, None, None, None, "")
    gain_a, gain_b = gains[a.family], gains[b.family]
    if gain_a is None or gain_b is None:
        return replace(blank, answer="cannot tell: a gain needs at least two usable sizes in each family")
    difference = gain_a.per_decade - gain_b.per_decade
    shared = math.log10(min(a.x[-1], b.x[-1]) / max(a.x[0], b.x[0]))
    if shared < MIN_SHARED_RANGE * max(gain_a.decades, gain_b.decades):
        return replace(blank, difference=difference, answer="cannot tell: the two ranges of sizes overlap too little")
    if gain_a.variance is None or gain_b.variance is None:
        return replace(blank, difference=difference, answer="cannot tell: the scatter of the sizes is unknown")
    parts = [2 * g.variance.s2 / g.decades**2 for g in (gain_a, gain_b) if g.variance is not None]
    df: float = gain_a.variance.df
    if "own" in (gain_a.variance.kind, gain_b.variance.kind):
        df = sum(parts) ** 2 / (parts[0] ** 2 / gain_a.variance.df + parts[1] ** 2 / gain_b.variance.df)
    sd = math.sqrt(sum(parts))
    half = float(stdtrit(df, (1 + level) / 2)) * sd
    better, worse = (a.family, b.family) if difference > 0 else (b.family, a.family)
    return replace(
        blank, difference=difference,
        interval=Interval(difference - half, difference + half, level, int(df), gain_a.variance.kind),
        p_value=float(2 * stdtr(df, -abs(difference) / sd)),
        answer=f"{better} improves more with {x_name} than {worse}",
    )  # fmt: skip


def _alpha_contrast(a: AlphaFit, b: AlphaFit, level: float) -> Contrast:
    blank = Contrast("alpha", a.family, b.family, None, None, None, None, "")
    alpha_a, alpha_b = a.solution.law.alpha, b.solution.law.alpha
    if alpha_a is None or alpha_b is None:
        return replace(blank, answer="cannot tell: a flat curve has no exponent")
    difference = alpha_a - alpha_b
    df = min(a.variance.df, b.variance.df)
    sets = [alpha_set(f.problem, f.solution, replace(f.variance, df=df), level) for f in (a, b)]
    unbounded = [
        f.family
        for f, alphas in zip((a, b), sets, strict=True)
        if not alpha_interval(alphas, f.variance, level).bounded
    ]
    if unbounded:
        why = f"cannot tell: the interval for alpha of {' and of '.join(unbounded)} is unbounded"
        return replace(blank, difference=difference, answer=why)
    higher, lower = (a.family, b.family) if difference > 0 else (b.family, a.family)
    return replace(
        blank, difference=difference, interval=_difference_interval(a, b, sets, df, level),
        p_value=float(fdtrc(1, df, _common_alpha_excess(a, b))),
        answer=f"{higher} has a larger exponent than {lower}",
    )  # fmt: skip


def _excess(fit: AlphaFit, alphas: FloatArray) -> FloatArray:
    """How far SSE lies above its least at these alphas, in units of the variance."""
    return np.asarray((project(fit.problem, alphas).sse - fit.solution.sse) / fit.variance.s2, dtype=np.float64)


def _common_alpha_excess(a: AlphaFit, b: AlphaFit) -> float:
    """Least sum of both excesses under one alpha: grid, then a bounded search in the best bracket."""
    grid = np.geomspace(ALPHA_MIN, ALPHA_MAX, SCAN_POINTS)
    total = _excess(a, grid) + _excess(b, grid)
    i = int(np.argmin(total))
    found = minimize_scalar(
        lambda alpha: float(_excess(a, np.array([alpha]))[0] + _excess(b, np.array([alpha]))[0]),
        bounds=(grid[max(i - 1, 0)], grid[min(i + 1, SCAN_POINTS - 1)]), method="bounded", options={"xatol": 1e-10},
    )  # fmt: skip
    return max(min(float(found.fun), float(total[i])), 0.0)


def _difference_interval(a: AlphaFit, b: AlphaFit, sets: Sequence[AlphaSet], df: int, level: float) -> Interval:
    """Range of alpha_a - alpha_b over all pairs whose summed excess stays below the F threshold."""
    nodes_a, nodes_b = map(nodes_of, sets)
    inside = _excess(a, nodes_a)[:, None] + _excess(b, nodes_b) <= float(fdtri(1, df, level))
    differences = np.subtract.outer(nodes_a, nodes_b)[inside]
    kind = a.variance.kind if a.variance == b.variance else "own"
    return Interval(float(differences.min()), float(differences.max()), level, df, kind)
