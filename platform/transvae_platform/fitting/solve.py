"""Least squares for L(x) = E + A x^-alpha by variable projection in one dimension.

At a fixed alpha the law is linear in (E, A), so both have a closed form; only alpha is searched. The search is a grid
over all alphas (no starting guess, hence no local optimum missed) and then a root search on the exact derivative.
Variable projection for scaling laws: vpnls, arXiv 2603.22339.

Residuals are relative, r_i = 1 - L(x_i)/y_i, that is weights 1/y_i^2: training noise and law misfit are, to first
order, proportional to the loss. x is divided by its geometric mean N0 before anything else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from transvae_platform.fitting.forms import FLOOR_LAW, FloatArray, Form, Law

# Range of exponents (assumption). Below 1e-3 a law is flat to 1 % over a factor 10^4 in x; above 10 it is a step at
# the smallest size. An optimum or interval that reaches a limit is reported as not determined on that side.
ALPHA_MIN, ALPHA_MAX = 1e-3, 10.0
# Three starts from grids of different spacing, which bracket each minimum differently. They are dense enough to
# bracket every local minimum of a handful of exponentials (measured by simulation, tests/fitting/test_solve.py).
START_GRIDS = (240, 173, 131)
# Convergence rule: |d SSE / d alpha| on the normalised problem, and relative agreement of the starts. A solver's own
# success flag is not used: an optimiser that stops early and reports success is what Besiroglu et al.
# (arXiv 2404.10102) found behind the published Chinchilla fit.
GRADIENT_TOLERANCE = 1e-8
AGREEMENT_TOLERANCE = 1e-6
# A law that falls by less than this over all sizes (relative) is flat: round-off, not a trend.
FLAT_DROP = 1e-9


@dataclass(frozen=True, eq=False)
class Problem:
    """Size means in normalised form: log_x = ln(x/N0), y > 0, both of shape (S,) with S the number of sizes."""

    log_x: FloatArray
    y: FloatArray
    N0: float
    form: Form = FLOOR_LAW


@dataclass(frozen=True, eq=False)
class LinearPart:
    """Best E >= 0 and A >= 0 (at x = N0) for each of K alphas, with sse and slope = d SSE / d alpha; all (K,)."""

    E: FloatArray
    A: FloatArray
    sse: FloatArray
    slope: FloatArray


@dataclass(frozen=True)
class Solution:
    """The optimum and the proof that it is one.

    sse is the sum of squared relative residuals; `gradient` is projected: 0 when alpha sits at a limit.
    `at_limit` is None, "lower" or "upper"; `flat` means that A = 0 is best and alpha does not exist.
    """

    law: Law
    sse: float
    residuals: tuple[float, ...]
    gradient: float
    starts: int
    starts_agreeing: int
    at_limit: str | None
    flat: bool

    @property
    def converged(self) -> bool:
        """True when the gradient vanishes and all starts agree; never taken from a library's flag."""
        return self.flat or (abs(self.gradient) <= GRADIENT_TOLERANCE and self.starts_agreeing == self.starts)


def make_problem(x: ArrayLike, y: ArrayLike, form: Form = FLOOR_LAW) -> Problem:
    """Normalises raw sizes. ValueError unless x, y are one-dimensional, equally long, finite and positive."""
    x_S, y_S = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x_S.ndim != 1 or x_S.shape != y_S.shape or x_S.size < 2:
        raise ValueError(f"x and y must be two equally long lists of at least 2 sizes, got {x_S.shape} and {y_S.shape}")
    if not (np.isfinite(x_S).all() and np.isfinite(y_S).all() and (x_S > 0).all() and (y_S > 0).all()):
        raise ValueError("x and y must be finite and positive")
    mean_log = float(np.log(x_S).mean())
    return Problem(np.log(x_S) - mean_log, y_S, float(np.exp(mean_log)), form)


def project(problem: Problem, alphas: ArrayLike) -> LinearPart:
    """Closed-form E >= 0 and A >= 0 at each alpha (shape (K,)), by the two-variable non-negative least squares."""
    alpha_K = np.atleast_1d(np.asarray(alphas, dtype=np.float64))
    u_S = 1.0 / problem.y
    d_KS = np.expm1(-alpha_K[:, None] * problem.log_x) * u_S  # x^-alpha minus 1: exact as alpha goes to 0
    v_KS = u_S + d_KS
    A_power_K = v_KS.sum(1) / (v_KS**2).sum(1)
    if not problem.form.with_floor:
        E_K, A_K = np.zeros_like(alpha_K), A_power_K
    else:
        uu, mean_E = u_S @ u_S, u_S.sum() / (u_S @ u_S)
        perp_KS = d_KS - (d_KS @ u_S / uu)[:, None] * u_S  # the part of x^-alpha that a constant cannot imitate
        A_K = perp_KS.sum(1) / (perp_KS**2).sum(1)
        E_K = mean_E - A_K * (v_KS @ u_S) / uu
        # The problem is convex: where the free optimum leaves the quadrant, the best point lies on one of its edges.
        sse_power_K = ((1.0 - A_power_K[:, None] * v_KS) ** 2).sum(1)
        sse_constant = float(((1.0 - mean_E * u_S) ** 2).sum())
        outside_K = (E_K < 0) | (A_K < 0)
        power_K = outside_K & (sse_power_K <= sse_constant)
        constant_K = outside_K & ~power_K
        E_K = np.where(power_K, 0.0, np.where(constant_K, mean_E, E_K))
        A_K = np.where(power_K, A_power_K, np.where(constant_K, 0.0, A_K))
    r_KS = 1.0 - (E_K + A_K)[:, None] * u_S - A_K[:, None] * d_KS
    # E and A are optimal (or pinned), so the total derivative is the partial one (envelope theorem).
    slope_K = 2.0 * (r_KS * A_K[:, None] * v_KS * problem.log_x).sum(1)
    return LinearPart(E_K, A_K, (r_KS**2).sum(1), slope_K)


def solve(problem: Problem) -> Solution:
    """Global least-squares optimum over alpha in [ALPHA_MIN, ALPHA_MAX]. Needs at least as many sizes as parameters."""
    found = [_best_alpha(problem, points) for points in START_GRIDS]
    sse_of_start = [float(project(problem, alpha).sse[0]) for alpha in found]
    alpha = found[int(np.argmin(sse_of_start))]
    part = project(problem, alpha)
    E, A0, slope = float(part.E[0]), float(part.A[0]), float(part.slope[0])
    residuals = 1.0 - (E + A0 * np.exp(-alpha * problem.log_x)) / problem.y
    drop = A0 * float(np.ptp(np.exp(-alpha * problem.log_x)))
    if drop <= FLAT_DROP * float(problem.y.mean()):
        return Solution(
            Law(E + A0, 0.0, None, problem.N0), float(part.sse[0]), tuple(residuals.tolist()), 0.0,
            len(found), len(found), None, flat=True,
        )  # fmt: skip
    at_limit = "lower" if alpha <= ALPHA_MIN else "upper" if alpha >= ALPHA_MAX else None
    points_outwards = (at_limit == "lower" and slope >= 0) or (at_limit == "upper" and slope <= 0)
    agreeing = sum(abs(other / alpha - 1.0) <= AGREEMENT_TOLERANCE for other in found)
    return Solution(
        Law(E, A0, alpha, problem.N0), float(part.sse[0]), tuple(residuals.tolist()),
        0.0 if points_outwards else slope, len(found), agreeing, at_limit, flat=False,
    )  # fmt: skip


def _best_alpha(problem: Problem, points: int) -> float:
    """Refines every local minimum that a grid of `points` alphas brackets and returns the lowest.

    Sums of many alphas at once round otherwise than those of one: where the derivative is no more than rounding, a
    bracket of the grid may be none for the search, and its ends stand for the minimum.
    """
    grid = np.geomspace(ALPHA_MIN, ALPHA_MAX, points)
    slope = project(problem, grid).slope
    candidates = [ALPHA_MIN, ALPHA_MAX]

    def slope_at(alpha: float) -> float:
        return float(project(problem, alpha).slope[0])

    for i in np.flatnonzero((slope[:-1] < 0) & (slope[1:] >= 0)):
        low, high = float(grid[i]), float(grid[i + 1])
        if slope_at(low) < 0 <= slope_at(high):
            candidates.append(float(brentq(slope_at, low, high, xtol=1e-14, rtol=1e-14)))
        else:
            candidates += [low, high]
    return candidates[int(np.argmin(project(problem, candidates).sse))]
