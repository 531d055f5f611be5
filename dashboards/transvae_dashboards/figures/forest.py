"""Gains and exponents of the families with their intervals; where there is none, the chart says so in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.ticker import MaxNLocator

from transvae_dashboards import formats
from transvae_dashboards.figures.canvas import WIDTH, Panel, canvas
from transvae_dashboards.laws import in_order
from transvae_dashboards.style import COLOURS, INK, MARKERS, MUTED, PAPER
from transvae_dashboards.tables import FAMILY_NAMES, X_WORDS
from transvae_platform.fitting import FamilyFit, FitReport

ALPHA_SHOWN = 2.0
"""Exponents beyond this end in an arrow (assumption: published exponents of losses lie well below 1)."""


@dataclass(frozen=True)
class Bar:
    """One row: an estimate with its interval, None where nothing can be told, and the same in words."""

    family: str
    value: float | None
    lower: float | None
    upper: float | None
    own: tuple[float, float] | None
    words: str


def forest_panels(report: FitReport) -> list[Panel]:
    """The gain from the smallest to the largest size, and the exponent."""
    fits = [fit for fit in in_order(report) if fit.sizes]
    if not fits:
        return []
    gains, alphas = [gain_bar(fit) for fit in fits], [alpha_bar(fit) for fit in fits]
    gain_title = "Loss removed from the smallest to the largest size"
    return [
        _panel(f"gain-{report.x_name}", gain_title, gains, lambda value: f"{100 * value:g} %"),
        _panel(f"alpha-{report.x_name}", f"Exponent alpha over {X_WORDS[report.x_name]}", alphas, "{:g}".format),
    ]


def gain_bar(fit: FamilyFit) -> Bar:
    """The gain as a share of the smallest size's loss: 1 - L_last / L_first."""
    if fit.gain is None:
        return Bar(fit.family, None, None, None, None, "cannot tell")
    value = -math.expm1(-fit.gain.total)
    if fit.gain.interval is None:
        return Bar(fit.family, value, None, None, None, f"{formats.percent(value)}, noise unknown")
    lower, upper = (-math.expm1(-end) for end in (fit.gain.interval.lower, fit.gain.interval.upper))
    words = f"{formats.percent(value)} [{formats.percent(lower)}, {formats.percent(upper)}]"
    if lower <= 0 <= upper:
        words = f"cannot tell: {words}"
    return Bar(fit.family, value, lower, upper, None, words)


def alpha_bar(fit: FamilyFit) -> Bar:
    """The exponent; unbounded ends are infinite."""
    if fit.alpha is None:
        return Bar(fit.family, None, None, None, None, "cannot tell")
    interval, own = fit.alpha_interval, fit.alpha_interval_own
    if interval is None:
        return Bar(fit.family, fit.alpha, None, None, None, f"{fit.alpha:.2f}, cannot tell how sure")
    lower = interval.lower if interval.bounded_below else 0.0
    upper = interval.upper if interval.bounded_above else math.inf
    words = f"{fit.alpha:.2f} [{lower:.2f}, {formats.number(upper) if math.isfinite(upper) else 'unbounded'}]"
    if not interval.bounded:
        words = f"cannot tell: {words}"
    return Bar(fit.family, fit.alpha, lower, upper, (own.lower, own.upper) if own is not None else None, words)


def _panel(name: str, title: str, bars: Sequence[Bar], write: Callable[[float], str]) -> Panel:
    label = f"{title}. " + "; ".join(f"{FAMILY_NAMES[bar.family]}: {bar.words}" for bar in bars)
    with canvas(name, label, WIDTH, 0.9 + 0.45 * len(bars)) as drawing:
        axes = drawing.axes
        numbers = [end for bar in bars for end in (0.0, bar.value, bar.lower, bar.upper) if end is not None]
        low = min(numbers)
        high = max(min(end, ALPHA_SHOWN) for end in numbers)
        margin = 0.06 * ((high - low) or 1.0)
        low, high = low - margin, high + margin
        for row, bar in enumerate(bars):
            _bar(axes, bar, -row, high)
        axes.axvline(0, color=MUTED, lw=0.8)
        axes.set_xlim(low, high)
        axes.set_ylim(-len(bars) + 0.4, 0.7)
        axes.set_yticks([-row for row in range(len(bars))], [FAMILY_NAMES[bar.family] for bar in bars])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(lambda value, _: write(round(value, 10)))
        axes.set_title(title, fontsize=9)
    return drawing.panel[0]


def _bar(axes: Any, bar: Bar, y: float, high: float) -> None:
    colour = COLOURS[bar.family]
    axes.annotate(bar.words, (1, y), xycoords=axes.get_yaxis_transform(), xytext=(0, 5), textcoords="offset points",
                  fontsize=8, color=MUTED, va="bottom", ha="right")  # fmt: skip
    if bar.own is not None:
        axes.plot([max(bar.own[0], 0.0), min(bar.own[1], high)], [y, y], color=colour, lw=0.8, alpha=0.6)
    if bar.lower is not None and bar.upper is not None:
        axes.plot([bar.lower, min(bar.upper, high)], [y, y], color=colour, lw=3, alpha=0.55, solid_capstyle="butt")
        if bar.upper > high:
            axes.plot([high], [y], marker=">", color=colour, ms=6, clip_on=False)
    if bar.value is not None and bar.value <= high:
        axes.plot([bar.value], [y], marker=MARKERS[bar.family], color=colour, ms=6.5, mec=PAPER, mew=0.7)
