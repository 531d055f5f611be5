"""The one way in: rows of a study go in, a FitReport comes out, in the order of the functions below."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy

from transvae_platform.fitting import solve as solver
from transvae_platform.fitting.compare import AlphaFit, compare_alphas, compare_gains, settle
from transvae_platform.fitting.forms import FLOOR_LAW
from transvae_platform.fitting.gain import gain_of
from transvae_platform.fitting.holdout import HoldOut, back_test
from transvae_platform.fitting.intervals import ALPHA_POINTS, Interval, alpha_interval, alpha_set, floor_interval
from transvae_platform.fitting.monotone import check_monotone
from transvae_platform.fitting.ratios import compare_ratios
from transvae_platform.fitting.refusals import (
    GROWTH,
    MIN_SIZES_FOR_OWN_INTERVAL,
    Refusal,
    alpha_at_limit,
    alpha_unbounded,
    flat_curve,
    floor_unbounded,
    growing_metric,
    no_interval,
    not_converged,
    one_seed,
    rising_family,
    rising_metric,
    too_few_sizes,
)
from transvae_platform.fitting.report import FamilyFit, FitReport
from transvae_platform.fitting.saturation import MARGIN, saturation_of
from transvae_platform.fitting.shared import shared_floor
from transvae_platform.fitting.solve import make_problem, solve
from transvae_platform.fitting.table import MEASURED_X, SAME_X, FamilyTable, Point, build_tables, data_hash
from transvae_platform.fitting.variance import APART, DRAWS, OUTSIDE, SEED, Variances, choose_variances

# Refusals that leave alpha and its interval standing.
QUALIFYING = ("floor-reaches-zero", "no-hold-out", "extrapolation", "one-seed")


def fit_families(
    points: Sequence[Point], *, metric: str, x_name: str = "parameters", level: float = 0.90, margin: float = MARGIN
) -> FitReport:
    """Fits L(x) = E + A x^-alpha to the size means of each family and compares the families.

    The rows must share one metric, resolution, training stage and recipe: that cannot be seen from the numbers.
    margin: the relative gain below which a family counts as saturated; to be fixed before the data are seen.
    ValueError when level or margin is outside (0, 1); bad data never raise, they become refusals and excluded points.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    if not 0.0 < margin < 1.0:
        raise ValueError(f"margin must lie between 0 and 1, got {margin}")
    same_x = MEASURED_X.get(x_name, SAME_X)
    tables, excluded = build_tables(points, same_x)
    refused_metric = rising_metric(metric) or _growing(metric, tables)
    study_refusals = [refused_metric] if refused_metric else []
    if not any(t.sizes for t in tables):
        study_refusals.append(Refusal("no-rows", metric, "no usable row is left", "finished runs are needed"))
    drafts = [_fit_law(table, x_name, refused_metric) for table in tables]
    variances = choose_variances(
        {d.family: (d.solution.sse, d.n_sizes - len(FLOOR_LAW.parameters)) for d in drafts if d.solution is not None}
    )
    usable = [t for t in tables if not t.refusals and refused_metric is None]
    tests = back_test(usable, x_name, level)
    fits = tuple(
        _finish(d, table, variances, tests.get(d.family), level, margin)
        for d, table in zip(drafts, tables, strict=True)
    )
    alpha_fits = [
        AlphaFit(f.family, f.problem, f.solution, f.variance)
        for f in fits
        if f.problem is not None and f.solution is not None and f.variance is not None
    ]
    return FitReport(
        metric, x_name, level, fits,
        compare_gains(usable, {f.family: f.gain for f in fits}, level, x_name),
        compare_alphas(alpha_fits, level),
        compare_ratios(usable, {f.family: f.variance for f in fits}, level, x_name),
        shared_floor({f.family: (f.problem, f.solution, f.variance) for f in alpha_fits}),
        variances, tuple(study_refusals), excluded, _provenance(points, level, margin, same_x),
    )  # fmt: skip


def _growing(metric: str, tables: Sequence[FamilyTable]) -> Refusal | None:
    """A metric whose mean at the largest size exceeds that at the smallest in every family with two different x."""
    ends = [(t.y[0], t.y[-1]) for t in tables if len(t.sizes) > 1 and not t.refusals]
    if not ends or any(last <= first * (1 + GROWTH) for first, last in ends):
        return None
    return growing_metric(metric, *ends[0])


def _fit_law(table: FamilyTable, x_name: str, refused_metric: Refusal | None) -> FamilyFit:
    """The optimum of one family, or why there is none; everything else is still empty."""
    draft = FamilyFit(
        table.family, x_name, table.sizes, table.seed_sd,
        None, None, None, None, None, None, None, None, None, None, None, (), "",
    )  # fmt: skip
    refusals = [*table.refusals, *([refused_metric] if refused_metric else [])]
    few = too_few_sizes(table.family, len(table.sizes))
    if few is not None:
        refusals.append(few)
    if refusals:
        return replace(draft, refusals=tuple(refusals))
    problem = make_problem(table.x, table.y)
    solution = solve(problem)
    unproven = not_converged(table.family, solution)
    if unproven is not None:
        return replace(draft, refusals=(unproven,))
    return replace(draft, problem=problem, solution=solution, law=solution.law)


def _finish(
    fit: FamilyFit, table: FamilyTable, variances: Variances, test: HoldOut | Refusal | None, level: float,
    margin: float,
) -> FamilyFit:  # fmt: skip
    """Intervals, gain, checks and the verdict, once the variance is known."""
    own, variance = variances.own.get(fit.family), variances.of(fit.family)
    enough = fit.n_sizes >= MIN_SIZES_FOR_OWN_INTERVAL
    if variance is own and not enough:
        variance = None
    refusals = list(fit.refusals)
    if isinstance(test, Refusal) and not refusals:
        refusals.append(test)
    if not table.refusals and fit.n_sizes >= 2 and not any(r.code == "rising-metric" for r in refusals):
        gain, monotone = gain_of(table, variance, level), check_monotone(table, variance)
        fit = replace(
            fit, gain=gain, monotone=monotone, hold_out=test if isinstance(test, HoldOut) else None,
            saturation=saturation_of(table, variance, level, margin),
        )  # fmt: skip
    problem, solution = fit.problem, fit.solution
    if problem is not None and solution is not None:
        found = [
            rising_family(fit.family, table.y[0], table.y[-1]),
            flat_curve(fit.family, solution),
            no_interval(fit.family, fit.n_sizes, variance is not None),
        ]
        if own is not None and enough:
            alphas = alpha_set(problem, solution, own, level)
            fit = replace(
                fit, alpha_interval_own=alpha_interval(alphas, own, level),
                E_interval_own=floor_interval(problem, alphas, own, level),
            )  # fmt: skip
        if variance is not None:
            alphas = alpha_set(problem, solution, variance, level)
            interval = alpha_interval(alphas, variance, level)
            floor = floor_interval(problem, alphas, variance, level)
            found += [alpha_unbounded(fit.family, interval), floor_unbounded(fit.family, floor)]
            fit = replace(fit, alphas=alphas, alpha_interval=interval, E_interval=floor)
        else:
            found.append(alpha_at_limit(fit.family, solution))
        found.append(one_seed(fit.family, fit.seed_sd))
        refusals = [r for r in found if r is not None] + refusals
    fit = replace(fit, variance=variance, refusals=tuple(refusals))
    return replace(fit, verdict=_verdict(fit))


def _verdict(fit: FamilyFit) -> str:
    """One plain sentence; 'cannot tell' wherever the data do not bound alpha."""
    decisive = [r for r in fit.refusals if r.code not in QUALIFYING]
    if fit.law is None or fit.law.alpha is None:
        return "cannot tell: " + "; ".join(f"{r.why} ({r.lifted_by})" for r in decisive)
    if fit.alpha_interval is None or fit.E_interval is None or fit.variance is None:
        return f"cannot tell how sure alpha = {fit.law.alpha:.2g} is: " + "; ".join(r.why for r in decisive)
    if decisive:
        return f"cannot tell: {decisive[0].why}; {decisive[0].lifted_by}"
    v = fit.variance
    source = f"variance pooled over {v.families} families" if v.kind == "pooled" else "own variance"
    floor = f"E = {fit.law.E:.3g} {_ends(fit.E_interval)}"
    if not fit.E_interval.bounded_below:
        floor = f"E <= {fit.E_interval.upper:.3g}"
    return (
        f"alpha = {fit.law.alpha:.2f} {_ends(fit.alpha_interval)}, {floor} "
        f"({100 * fit.alpha_interval.level:g} % intervals, {source}, df {v.df}, {fit.n_sizes} sizes)"
    )


def _ends(interval: Interval) -> str:
    return f"[{interval.lower:.3g}, {interval.upper:.3g}]"


def _provenance(points: Sequence[Point], level: float, margin: float, same_x: float) -> dict[str, Any]:
    return {
        "form": FLOOR_LAW.expression,
        "reduction": "mean over seeds per size; least squares on size means",
        "weights": "1/mean^2 (relative residuals)",
        "solver": "variable projection in alpha, E >= 0 and A >= 0 in closed form, root of the exact derivative",
        "intervals": "profile likelihood with F threshold (1, df) on size means, df = sizes - 3, pooled over families; "
        "a family that scatters more than the others keeps its own variance",
        "spread_test": {
            "statistic": "own variance over the df-weighted mean of the others without their largest",
            "apart_below_p": APART,
            "outside_the_pool_below_p": OUTSIDE,
            "draws": DRAWS,
            "seed": SEED,
            "generator": "numpy default_rng(seed): chisquare(df, draws), then chisquare of the others in ascending df",
        },
        "multiplicity": "Holm over the pairs of families within this metric, gain and alpha each for itself",
        "level": level,
        "saturation_margin": margin,
        "same_x": same_x,
        "alpha_range": [solver.ALPHA_MIN, solver.ALPHA_MAX],
        "start_grids": list(solver.START_GRIDS),
        "interval_grid": ALPHA_POINTS,
        "tolerances": {"gradient": solver.GRADIENT_TOLERANCE, "agreement": solver.AGREEMENT_TOLERANCE},
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__},
        "data_sha256": data_hash(points),
        "rows": len(points),
    }


def over_metrics(reports: Sequence[FitReport]) -> tuple[FitReport, ...]:
    """The same fits with Holm's correction over the pairs of families and all metrics together.

    Who tests every pair on several metrics asks more questions, and must not get more false answers for it.
    """
    level, note = reports[0].level, f"Holm over the pairs of families and {', '.join(r.metric for r in reports)}"
    gains = iter(settle([c for report in reports for c in report.gain_contrasts], level))
    alphas = iter(settle([c for report in reports for c in report.alpha_contrasts], level))
    ratios = iter(settle([c for report in reports for c in report.ratios], level))
    return tuple(
        replace(
            report,
            gain_contrasts=tuple(next(gains) for _ in report.gain_contrasts),
            alpha_contrasts=tuple(next(alphas) for _ in report.alpha_contrasts),
            ratios=tuple(next(ratios) for _ in report.ratios),
            provenance={**report.provenance, "multiplicity": note},
        )
        for report in reports
    )
