"""Attempts of all trials on one axis of time: work, preemptions, failures, and what was spent waiting."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from matplotlib.ticker import FuncFormatter, MaxNLocator

from transvae_dashboards.figures.canvas import Panel, canvas
from transvae_dashboards.follow.spans import Span
from transvae_dashboards.follow.study import FollowedStudy
from transvae_dashboards.style import COLOURS, INK, MUTED, opacity
from transvae_dashboards.tables import FAMILY_NAMES
from transvae_platform.study.state import TrialState

WIDTH = 11.0
ROW, FEW = 0.17, 60
"""Inches per trial, and how many trials have rows of that height with their names; more share the same height."""
MARKS = {
    "preempted": ("D", INK),
    "failed": ("X", INK),
    "died": ("v", INK),
    "stopped": ("s", MUTED),
    "paused": ("|", MUTED),
}
UNITS = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))


def timeline_panel(state: FollowedStudy, trials: Sequence[TrialState]) -> Panel | None:
    """None before the first attempt; trials that have not begun are left out."""
    shown = [(trial, state.history(trial).spans) for trial in trials if state.history(trial).spans]
    if not shown:
        return None
    spans = [span for _, found in shown for span in found]
    begin = min([float(entry["at"]) for entry in state.submissions] + [span.start for span in spans])
    begin = max(begin, min(span.start for span in spans) - 86400)  # an early submission must not squash the rest
    end = max(max(span.end for span in spans), begin + 1.0)
    unit, word = next((size, name) for size, name in UNITS if end - begin >= 2 * size or size == 1.0)
    label = f"{len(spans)} attempts of {len(shown)} trials over {(end - begin) / unit:.3g} {word}"
    named = len(shown) <= FEW
    row = ROW if named else ROW * FEW / len(shown)
    with canvas("timeline", label, WIDTH, 0.7 + row * len(shown)) as drawing:
        axes = drawing.axes
        for place, (trial, found) in enumerate(shown):
            _trial(axes, place, trial, found, lambda at: (at - begin) / unit, 72 * row)
        for entry in state.submissions:
            if entry["at"] >= begin:
                axes.axvline((entry["at"] - begin) / unit, color=MUTED, lw=0.7, ls=":")
        names = [(place, _name(trial)) for place, (trial, _) in enumerate(shown)] if named else _families(shown)
        axes.set_yticks([place for place, _ in names], [name for _, name in names], fontsize=7.5)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlim(0, (end - begin) / unit * 1.01)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel(f"{word} since the first submission shown")
    return drawing.panel[0]


def _trial(axes: Any, place: int, trial: TrialState, spans: Sequence[Span], to_x: Any, points: float) -> None:
    colour, strength = COLOURS.get(trial.trial.family, INK), opacity(trial.trial.size)
    height = max(points * 0.55, 0.6)
    for number, span in enumerate(spans):
        left, right = to_x(span.start), to_x(span.end)
        if number:  # waiting
            axes.plot([to_x(spans[number - 1].end), left], [place, place], color=MUTED, lw=0.8, ls=(0, (1, 1.5)))
        axes.plot([left, right], [place, place], color=colour, lw=height, alpha=strength, solid_capstyle="butt")
        if span.how in MARKS:
            marker, ink = MARKS[span.how]
            axes.plot(
                [right], [place], marker=marker, color=ink, ms=min(max(points * 0.4, 2), 5), ls="none", clip_on=False
            )
    if spans[-1].how == "running":
        axes.plot([to_x(spans[-1].end)], [place], marker=">", color=colour, ms=min(max(points * 0.5, 2), 6), ls="none",
                  clip_on=False)  # fmt: skip


def _name(trial: TrialState) -> str:
    return f"{trial.trial.label} s{trial.trial.seed}"


def _families(shown: Sequence[tuple[TrialState, Sequence[Span]]]) -> list[tuple[float, str]]:
    """Where rows are too low for their names: each family's at the middle of its rows."""
    groups = groupby(enumerate(shown), key=lambda row: row[1][0].trial.family)
    places = [(family, [place for place, _ in rows]) for family, rows in groups]
    return [(statistics.fmean(rows), FAMILY_NAMES.get(family, family)) for family, rows in places]
