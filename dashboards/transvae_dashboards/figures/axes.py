"""Axes that read well: few round ticks on log scales, and labels that do not cover each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from transvae_dashboards import formats
from transvae_dashboards.figures.room import fit, make_room
from transvae_dashboards.style import MUTED

STEPS = ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))
MIN_TICKS, MAX_TICKS = 4, 7
LABEL_GAP = 9.5
"""Least distance of two line-end labels in points."""
ARROW: dict[str, Any] = {"arrowstyle": "-", "lw": 0.5, "relpos": (0, 0.5), "patchA": None, "shrinkA": 2, "shrinkB": 2}
"""From a label's left edge to its line's end: without `patchA` no box is cut out, which took 5 % of a page's time."""


def log_axis(axis: Any, low: float, high: float, units: tuple[tuple[float, str], ...] = formats.COUNT_UNITS) -> None:
    """Make an axis logarithmic over [low, high] with labels such as `50k 1M` or `0.12 0.15 0.2`."""
    axes = axis.axes
    (axes.set_xscale if axis.axis_name == "x" else axes.set_yscale)("log")
    (axes.set_xlim if axis.axis_name == "x" else axes.set_ylim)(low, high)
    axis.set_major_locator(FixedLocator(log_ticks(low, high)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: formats.tick(value, units)))


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers within [low, high], four to seven of them where there are so many."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    candidates = [[step * 10.0**decade for decade in decades for step in steps] for steps in STEPS]
    # in a small part of a decade equal distances read better
    candidates.append([float(tick) for tick in MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)])
    inside = [[tick for tick in ticks if low <= tick <= high] for ticks in candidates]
    chosen = next((ticks for ticks in inside if len(ticks) >= MIN_TICKS), max(inside, key=len))
    return chosen[:: math.ceil(len(chosen) / MAX_TICKS)]


def padded(values: Sequence[float], share: float = 0.08) -> tuple[float, float]:
    """The range of positive values with a margin, in log space; never empty."""
    low, high = math.log(min(values)), math.log(max(values))
    margin = max((high - low) * share, 0.02)
    return math.exp(low - margin), math.exp(high + margin)


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Positions at least `gap` apart, in the same order and as near to the wanted ones as that allows.

    Neighbours that are too close merge into a block centred on its members' mean wish, until no two blocks touch.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    blocks: list[tuple[float, list[int]]] = []
    for i in order:
        blocks.append((wanted[i], [i]))
        while len(blocks) > 1:
            (below, first), (above, second) = blocks[-2:]
            if above - below >= gap * (len(first) + len(second)) / 2:
                break
            members = first + second
            centre = sum(wanted[m] for m in members) / len(members)
            blocks[-2:] = [(centre, members)]
    placed = [0.0] * len(wanted)
    for centre, members in blocks:
        for rank, member in enumerate(members):
            placed[member] = centre + gap * (rank - (len(members) - 1) / 2)
    return placed


def end_labels(axes: Any, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Write (x, y, text, colour) labels right of the axes' line ends; call after the limits are set."""
    if not ends:
        return
    fit(axes)  # decides how tall the axes are, and so how far labels must move
    points = 72 / axes.figure.dpi
    heights = [axes.transData.transform((x, y))[1] * points for x, y, _, _ in ends]
    places, texts = spread(heights, LABEL_GAP), []
    for (x, y, text, colour), height, place in zip(ends, heights, places, strict=True):
        moved = abs(place - height) > 1.5
        arrow = {**ARROW, "color": MUTED} if moved else None
        written = axes.annotate(
            text, (x, y), xytext=(12 if moved else 6, place - height), textcoords="offset points", color=colour,
            va="center", ha="left", fontsize=8.5, fontweight="bold", annotation_clip=False, arrowprops=arrow,
        )  # fmt: skip
        texts.append(written)
    make_room(axes, texts)
