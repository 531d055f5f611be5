"""Exact profile intervals for alpha, E and predictions, on size means.

Statistics: profile likelihood with an F threshold. A parameter triple is in the confidence set when its SSE is at
most c = SSE_min + s2 F(level; 1, df). At a fixed alpha the set is an ellipse in (E, A) cut by E >= 0 and A >= 0, so
the range of every linear functional E + w A over it has a closed form; the interval is the union over alphas.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import fdtri

from transvae_platform.fitting.forms import FloatArray
from transvae_platform.fitting.solve import ALPHA_MAX, ALPHA_MIN, Problem, Solution, project
from transvae_platform.fitting.variance import Variance

# Grid that finds the pieces of the set of alphas; their ends are then root-found, so it sets no precision.
ALPHA_POINTS = 1500
# Chebyshev nodes per piece for the union over alphas. Near an end of the piece the ellipse shrinks like a square
# root; in the Chebyshev angle it is smooth, so 201 nodes are good to about 1e-4 of the width (test_intervals.py).
UNION_NODES = 201


@dataclass(frozen=True)
class Interval:
    """[lower, upper] at `level`; an end that the data do not bound is flagged (alpha: 0 or inf, E: 0 below)."""

    lower: float
    upper: float
    level: float
    df: int
    variance: str
    bounded_below: bool = True
    bounded_above: bool = True

    @property
    def bounded(self) -> bool:
        return self.bounded_below and self.bounded_above


@dataclass(frozen=True)
class AlphaSet:
    """All alphas with SSE(alpha) <= threshold, as disjoint pieces (low, high) in ascending order."""

    pieces: tuple[tuple[float, float], ...]
    threshold: float


def alpha_set(problem: Problem, solution: Solution, variance: Variance, level: float) -> AlphaSet:
    """The profile set for alpha; level in (0, 1)."""
    threshold = solution.sse + variance.s2 * float(fdtri(1, variance.df, level))
    grid = np.geomspace(ALPHA_MIN, ALPHA_MAX, ALPHA_POINTS)
    if solution.law.alpha is not None:
        grid = np.unique(np.append(grid, solution.law.alpha))  # a set narrower than the grid still holds the optimum
    inside = project(problem, grid).sse <= threshold
    edges = np.flatnonzero(np.diff(np.concatenate(([False], inside, [False])).astype(np.int8)))

    def end(out: int, into: int) -> float:
        """Where SSE crosses the threshold between neighbouring grid points; within rounding, the one inside."""
        excess = lambda a: float(project(problem, a).sse[0]) - threshold  # noqa: E731
        if not excess(grid[into]) <= 0 < excess(grid[out]):
            return float(grid[into])
        return float(brentq(excess, *sorted((grid[out], grid[into])), xtol=1e-13, rtol=1e-12))

    pieces = []
    for first, stop in zip(edges[::2], edges[1::2], strict=True):
        low = ALPHA_MIN if first == 0 else end(first - 1, first)
        high = ALPHA_MAX if stop == len(grid) else end(stop, stop - 1)
        pieces.append((low, high))
    return AlphaSet(tuple(pieces), threshold)


def alpha_interval(alphas: AlphaSet, variance: Variance, level: float) -> Interval:
    """Hull of the set. An end at the limit of the grid is no end: it is returned as 0 or inf and flagged."""
    low, high = alphas.pieces[0][0], alphas.pieces[-1][1]
    below, above = low > ALPHA_MIN, high < ALPHA_MAX
    return Interval(low if below else 0.0, high if above else np.inf, level, variance.df, variance.kind, below, above)


def floor_interval(problem: Problem, alphas: AlphaSet, variance: Variance, level: float) -> Interval:
    """Interval for E; `bounded_below` is False when it reaches 0, and then only 'E <= upper' may be said."""
    low, high = _union(problem, alphas, None)
    lower = max(float(low[0]), 0.0)
    return Interval(lower, float(high[0]), level, variance.df, variance.kind, bounded_below=lower > 0.0)


def prediction_ends(problem: Problem, alphas: AlphaSet, xs: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Lower and upper ends of the law at raw xs (shape (M,)): the band for the LAW, not for a newly trained size."""
    return _union(problem, alphas, np.log(np.asarray(xs, dtype=np.float64)) - np.log(problem.N0))


def new_size_interval(
    problem: Problem, alphas: AlphaSet, x: float, predicted: float, variance: Variance, level: float
) -> Interval:
    """Where the mean of a newly trained size will lie: the law's interval at x and the scatter s mu sqrt(F) of a size,
    combined in quadrature."""
    low, high = prediction_ends(problem, alphas, [x])
    scatter = predicted * np.sqrt(variance.s2 * float(fdtri(1, variance.df, level)))
    return Interval(
        max(predicted - float(np.hypot(predicted - low[0], scatter)), 0.0),
        predicted + float(np.hypot(high[0] - predicted, scatter)), level, variance.df, variance.kind,
    )  # fmt: skip


def nodes_of(alphas: AlphaSet, nodes: int = UNION_NODES) -> FloatArray:
    """Chebyshev nodes of all pieces, ends included, shape (K,)."""
    angle = np.cos(np.linspace(np.pi, 0.0, nodes))
    return np.concatenate([(hi + lo) / 2 + (hi - lo) / 2 * angle for lo, hi in alphas.pieces])


def _union(problem: Problem, alphas: AlphaSet, log_x_M: FloatArray | None) -> tuple[FloatArray, FloatArray]:
    """Range of E + w A over the confidence set, w = (x/N0)^-alpha for each of M xs, or w = 0 (E itself) for None.

    A linear functional on (ellipse cut by the quadrant) is extreme at an extreme point of the ellipse, where that
    lies in the quadrant, or at an end of a chord of the ellipse on the edges A = 0 and E = 0.
    """
    alpha_K = nodes_of(alphas)
    c, u_S = alphas.threshold, 1.0 / problem.y
    w_KM = np.zeros((alpha_K.size, 1)) if log_x_M is None else np.exp(-alpha_K[:, None] * log_x_M)
    d_KS = np.expm1(-alpha_K[:, None] * problem.log_x) * u_S
    v_KS = u_S + d_KS
    uu, mean_E = u_S @ u_S, u_S.sum() / (u_S @ u_S)
    perp_KS = d_KS - (d_KS @ u_S / uu)[:, None] * u_S
    pp_K, vv_K = (perp_KS**2).sum(1), (v_KS**2).sum(1)
    k_K = v_KS @ u_S / uu  # E = e - k A with e, A uncorrelated: SSE = SSE_free + uu (e - mean_E)^2 + pp (A - A_free)^2
    A_K = perp_KS.sum(1) / pp_K
    free_K = ((1.0 - mean_E * u_S - A_K[:, None] * perp_KS) ** 2).sum(1)
    lever_KM = w_KM - k_K[:, None]
    with np.errstate(invalid="ignore"):  # sqrt of a negative number marks "no such point" with NaN
        step_KM = np.sqrt((c - free_K)[:, None] / (1.0 / uu + lever_KM**2 / pp_K[:, None]))
        constant_K = np.sqrt((c - float(((1.0 - mean_E * u_S) ** 2).sum())) / uu) * np.ones_like(alpha_K)
        A_power_K = v_KS.sum(1) / vv_K
        power_K = np.sqrt((c - ((1.0 - A_power_K[:, None] * v_KS) ** 2).sum(1)) / vv_K)
    best = project(problem, alpha_K)
    points = [best.E[:, None] + best.A[:, None] * w_KM]
    for sign in (-1.0, 1.0):
        A_KM = A_K[:, None] + sign * step_KM * lever_KM / pp_K[:, None]
        E_KM = mean_E + sign * step_KM / uu - k_K[:, None] * A_KM
        points.append(np.where((A_KM >= 0) & (E_KM >= 0), E_KM + w_KM * A_KM, np.nan))
        edge_E_K, edge_A_K = mean_E + sign * constant_K, A_power_K + sign * power_K
        points.append(np.where(edge_E_K >= 0, edge_E_K, np.nan)[:, None] + np.zeros_like(w_KM))
        points.append(np.where(edge_A_K >= 0, edge_A_K, np.nan)[:, None] * w_KM)
    stack = np.stack(points)
    return np.nanmin(stack, axis=(0, 1)), np.nanmax(stack, axis=(0, 1))
