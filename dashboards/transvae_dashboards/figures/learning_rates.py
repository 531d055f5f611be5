"""Final loss against learning rate, a panel per family: a line per size, the best filled, ended ones crossed."""

from __future__ import annotations

from collections.abc import Sequence

from transvae_dashboards.figures.axes import end_labels, log_axis, padded
from transvae_dashboards.figures.canvas import Panel, canvas
from transvae_dashboards.style import COLOURS, MARKERS, PAPER, line_width, opacity
from transvae_dashboards.tables import FAMILIES, FAMILY_NAMES, SIZE_NAMES
from transvae_platform.study.calibration import Outcome


def rate_panels(found: Sequence[Outcome], metric: str) -> list[Panel]:
    """One panel per family with a finished rate; all share their axes."""
    if not found:
        return []
    rates = padded([rate for outcome in found for rate in (*outcome.losses, *outcome.ended)], 0.1)
    losses = padded([loss for outcome in found for loss in outcome.losses.values()], 0.12)
    families = [family for family in FAMILIES if any(outcome.family == family for outcome in found)]
    return [_panel(family, [o for o in found if o.family == family], metric, rates, losses) for family in families]


def _panel(
    family: str, found: Sequence[Outcome], metric: str, rates: tuple[float, float], losses: tuple[float, float]
) -> Panel:
    colour, marker = COLOURS[family], MARKERS[family]
    label = f"{FAMILY_NAMES[family]}: {metric} against learning rate, one line per size"
    with canvas(f"rates-{family}", label, of=family) as drawing:
        axes, ends = drawing.axes, []
        for outcome in found:
            points = sorted(outcome.losses.items())
            look = {"color": colour, "alpha": opacity(outcome.size)}
            axes.plot(*zip(*points, strict=True), marker=marker, ms=5, mfc=PAPER, lw=line_width(outcome.size), **look)
            axes.plot([outcome.best], [outcome.losses[outcome.best]], marker=marker, ms=7, **look)
            ends.append((*points[-1], SIZE_NAMES[outcome.size], colour))
        crossed = sorted({rate for outcome in found for rate in outcome.ended})
        axes.plot(
            crossed, [0.96] * len(crossed), "x", color=colour, ms=5, transform=axes.get_xaxis_transform(), clip_on=False
        )
        log_axis(axes.xaxis, *rates)
        log_axis(axes.yaxis, *losses)
        axes.set_xlabel("learning rate")
        axes.set_ylabel(metric)
        axes.set_title(FAMILY_NAMES[family], color=colour)
        end_labels(axes, ends)
    return drawing.panel[0]
