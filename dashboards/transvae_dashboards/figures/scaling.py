"""The metric against model size or training compute, with the fitted laws: one joint panel, one per family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from transvae_dashboards import formats
from transvae_dashboards.figures.axes import end_labels, log_axis, padded
from transvae_dashboards.figures.canvas import HEIGHT, Panel, canvas
from transvae_dashboards.laws import in_order
from transvae_dashboards.style import COLOURS, INK, MARKERS, MUTED, PAPER
from transvae_dashboards.tables import FAMILY_NAMES, METRIC_NAMES, SIZE_NAMES, X_WORDS
from transvae_platform.fitting import FamilyFit, FitReport

AXIS = {
    "parameters": ("parameters", formats.COUNT_UNITS),
    "training_flops": (
        "training FLOPs = 2 × multiply-adds, forward + backward,\nencoder + decoder, loss networks excluded",
        formats.UNITS,
    ),
}
BEYOND = 4.0
"""How far the dashed law goes beyond the largest size; the fits refuse predictions that go further."""
REACH = (0.8, 1.25)
"""How far a prediction's interval may stretch the axis beyond the data (assumption); longer ones leave the picture."""
SAMPLES = 81


def scaling_panels(report: FitReport) -> list[Panel]:
    """The joint panel first, then a panel per family; none before there is a finished trial."""
    fits = [fit for fit in in_order(report) if fit.sizes]
    if not fits:
        return []
    values = [value for fit in fits for size in fit.sizes for value in size.values]
    values += [fit.hold_out.predicted for fit in fits if fit.hold_out is not None]
    values += [float(fit.law(fit.sizes[-1].x * BEYOND)) for fit in fits if fit.law is not None]
    values = [value for value in values if value > 0]
    low, high = REACH[0] * min(values), REACH[1] * max(values)
    for fit in fits:
        if fit.hold_out is not None:
            values += [max(fit.hold_out.interval.lower, low), min(fit.hold_out.interval.upper, high)]
    limits = padded(values, 0.1)
    # one range for all families: small multiples are compared with each other
    beyond = BEYOND**0.97 if any(fit.law is not None for fit in fits) else 1.0
    ends = [x for fit in fits for x in (fit.sizes[0].x, fit.sizes[-1].x)]
    xs = [min(ends), max(ends) * beyond]
    return [_joint(report, fits, limits), *(_family(report, fit, xs, limits) for fit in fits)]


def _joint(report: FitReport, fits: Sequence[FamilyFit], limits: tuple[float, float]) -> Panel:
    names = ", ".join(FAMILY_NAMES[fit.family] for fit in fits)
    label = f"{_y_name(report)} against {X_WORDS[report.x_name]}: {names} in one chart"
    # as tall as the table of the same numbers that stands beside it
    height = min(max(HEIGHT, 0.8 + 0.2 * sum(len(fit.sizes) for fit in fits)), 1.45 * HEIGHT)
    with canvas(f"scaling-{report.x_name}-all", label, height=height) as drawing:
        axes = drawing.axes
        for fit in fits:
            colour, marker = COLOURS[fit.family], MARKERS[fit.family]
            _law(axes, fit, colour, beyond=1.0)
            axes.plot([s.x for s in fit.sizes], [s.mean for s in fit.sizes], marker=marker, color=colour, ms=5,
                      ls="none" if fit.law is not None else ":", lw=1, mec=PAPER, mew=0.6)  # fmt: skip
        _frame(axes, report, [s.x for fit in fits for s in fit.sizes], limits)
        end_labels(axes, [(f.sizes[-1].x, f.sizes[-1].mean, FAMILY_NAMES[f.family], COLOURS[f.family]) for f in fits])
    return drawing.panel[0]


def _family(report: FitReport, fit: FamilyFit, xs: Sequence[float], limits: tuple[float, float]) -> Panel:
    name, colour, marker = FAMILY_NAMES[fit.family], COLOURS[fit.family], MARKERS[fit.family]
    label = f"{name}: {_y_name(report)} against {X_WORDS[report.x_name]}. {fit.verdict}"
    with canvas(f"scaling-{report.x_name}-{fit.family}", label, of=fit.family) as drawing:
        axes = drawing.axes
        _law(axes, fit, colour, BEYOND)
        seeds = [(size.x, value) for size in fit.sizes for value in size.values]
        axes.plot(*zip(*seeds, strict=True), marker=marker, color=colour, ls="none", ms=3.2, alpha=0.45, mew=0)
        axes.plot([size.x for size in fit.sizes], [size.mean for size in fit.sizes], marker=marker, color=colour, ms=6,
                  mec=PAPER, mew=0.7, ls="none")  # fmt: skip
        for size in fit.sizes:
            above = 11 if fit.hold_out is not None and fit.hold_out.size == size.size else 7
            axes.annotate(SIZE_NAMES[size.size], (size.x, size.mean), xytext=(0, above), textcoords="offset points",
                          ha="center", fontsize=8.5, fontweight="bold", color=INK)  # fmt: skip
        _hold_out(axes, fit, colour, marker)
        _frame(axes, report, xs, limits)
        axes.set_title(name, color=colour)
        if fit.law is None:
            axes.text(0.98, 0.95, "no law: see the table of laws", transform=axes.transAxes, ha="right", va="top",
                      color=MUTED)  # fmt: skip
    return drawing.panel[0]


def _law(axes: Any, fit: FamilyFit, colour: str, beyond: float) -> None:
    if fit.law is None:
        return
    first, last = fit.sizes[0].x, fit.sizes[-1].x
    known = "-" if fit.alpha_interval is not None and fit.alpha_interval.bounded else ":"
    for low, high, style, strength in ((first, last, known, 0.16), (last, last * beyond * (1 - 1e-12), "--", 0.08)):
        if high <= low:
            continue
        xs = np.geomspace(low, high, SAMPLES)
        axes.plot(xs, fit.curve(xs), color=colour, lw=1.4, ls=style)
        if beyond > 1:  # bands of several families in one chart would hide each other
            lower, upper = fit.band(xs)
            # a lower end of zero has no place on a log axis; anything below the axes' range draws the same
            axes.fill_between(xs, np.maximum(lower, 1e-9), upper, color=colour, alpha=strength, lw=0)


def _hold_out(axes: Any, fit: FamilyFit, colour: str, marker: str) -> None:
    """What the smaller sizes predicted for the largest one: hollow, with its interval and its error."""
    test = fit.hold_out
    if test is None:
        return
    low, high = max(test.interval.lower, 1e-9), test.interval.upper
    axes.plot([test.x, test.x], [low, high], color=colour, lw=0.8, alpha=0.7, zorder=2.5)
    axes.plot([test.x], [test.predicted], marker=marker, ms=9, mfc="none", mec=colour, mew=1.1, ls="none", zorder=3)
    axes.annotate(
        f"{SIZE_NAMES[test.size]} predicted from the others: {formats.percent(test.error, signed=True)}",
        (0.98, 0.95), xycoords="axes fraction", ha="right", va="top", fontsize=8.5, color=MUTED,
    )  # fmt: skip


def _frame(axes: Any, report: FitReport, xs: Sequence[float], limits: tuple[float, float]) -> None:
    name, units = AXIS[report.x_name]
    log_axis(axes.xaxis, *padded(xs, 0.06), units=units)
    log_axis(axes.yaxis, *limits)
    axes.set_xlabel(name)
    axes.set_ylabel(_y_name(report))


def _y_name(report: FitReport) -> str:
    return METRIC_NAMES.get(report.metric, report.metric)
