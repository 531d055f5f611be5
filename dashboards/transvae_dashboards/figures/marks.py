"""What happened along a curve: phases of the recipe, restarts, preemptions, and where the guard went back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from transvae_dashboards.follow.spans import History
from transvae_dashboards.style import INK, MUTED
from transvae_dashboards.tables import SIZE_NAMES
from transvae_platform.study.state import TrialState

ToX = Callable[[Any], np.ndarray]
ENDS = {"preempted": "D", "failed": "x", "died": "x"}
FEW = 24
"""Names up to which each has room (assumption)."""
LETTER = 5.5
"""Points that a letter of a name takes: DejaVu Sans at 7.5 points, with some air."""


def phases(trial: TrialState) -> list[tuple[int, str]]:
    """The steps at which something in the recipe changes, with a word."""
    recipe = trial.trial.recipe
    found = [(recipe.warmup_steps, "warm-up ends")] if recipe.warmup_steps else []
    if recipe.losses.gan is not None and recipe.gan_start:
        found.append((recipe.gan_start, "discriminator"))
    if 0 < recipe.stage_edge < recipe.steps:
        found.append((recipe.stage_edge, "decoder alone"))
    return [(step, " + ".join(word for at, word in found if at == step)) for step in dict.fromkeys(s for s, _ in found)]


def draw_phases(axes: Any, trial: TrialState, to_x: ToX) -> None:
    """A dotted line per change of phase, named at the top: on its left in the right half, where there is room."""
    for step, word in phases(trial):
        x = float(to_x([step])[0])
        if x <= 0 and axes.get_xscale() == "log":  # of device-hours nothing is known yet
            continue
        axes.axvline(x, color=MUTED, lw=0.7, ls=":")
        late = axes.transAxes.inverted().transform(axes.transData.transform((x, axes.get_ylim()[0])))[0] > 0.5
        axes.annotate(word, (x, 1), xycoords=axes.get_xaxis_transform(), xytext=(-3 if late else 3, -2),
                      textcoords="offset points", fontsize=7, color=MUTED, va="top",
                      ha="right" if late else "left")  # fmt: skip


class Mark(NamedTuple):
    """One mark on the x axis: where, its shape, and the size that it belongs to where that is to be said."""

    x: float
    shape: str
    name: str = ""


def marks_of(trial: TrialState, history: History, to_x: ToX) -> list[Mark]:
    """A triangle where an attempt resumed, a diamond where one was preempted, a cross after a failure.

    An arrow head pointing left marks where the guard went back to.
    """
    name = SIZE_NAMES.get(trial.trial.size, trial.trial.size)
    found = [(span.resumed_from, "^", name) for span in history.spans[1:]]
    found += [(span.step, ENDS[span.how], "") for span in history.spans if span.how in ENDS]
    found += [(rewind["to"], "<", name) for rewind in trial.rewound]
    places = to_x([step for step, _, _ in found]) if found else ()
    return [Mark(float(x), shape, text) for x, (_, shape, text) in zip(places, found, strict=True)]


def draw_marks(axes: Any, marks: Sequence[Mark]) -> None:
    """All marks of a chart; names only where there are few."""
    if axes.get_xscale() == "log":  # an attempt that began anew has no place there
        marks = [mark for mark in marks if mark.x > 0]
    at_axis = axes.get_xaxis_transform()
    for shape in dict.fromkeys(mark.shape for mark in marks):
        xs = sorted({mark.x for mark in marks if mark.shape == shape})
        axes.plot(xs, [0] * len(xs), marker=shape, ms=3.5 if shape == "D" else 4.5, color=INK, clip_on=False,
                  ls="none", transform=at_axis)  # fmt: skip
    named = _named(axes, marks)
    for x, name in named if len(named) <= FEW else ():
        axes.annotate(name, (x, 0), xytext=(0, 5), textcoords="offset points", xycoords=at_axis, ha="center",
                      fontsize=7.5, color=INK)  # fmt: skip


def _named(axes: Any, marks: Sequence[Mark]) -> list[tuple[float, str]]:
    """Where which names stand: those of marks that are too close for names of their own share one text."""
    known = list(dict.fromkeys((mark.x, mark.name) for mark in marks if mark.name))  # the seeds of a size once
    order = list(dict.fromkeys(name for _, name in known))
    found: list[tuple[float, float, list[str]]] = []  # x, its place in points, names
    for x, name in sorted(known):
        place = float(axes.transData.transform((x, 1.0))[0]) * 72 / axes.figure.dpi
        if found and place - found[-1][1] < LETTER * (len(" ".join(found[-1][2])) + 1):
            found[-1][2][:] = dict.fromkeys([*found[-1][2], name])
        else:
            found.append((x, place, [name]))
    return [(x, " ".join(sorted(names, key=order.index))) for x, _, names in found]
