"""What happened along a curve: phases of the recipe, restarts, preemptions, and where the guard went back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from transvae_dashboards.follow.spans import History
from transvae_dashboards.style import INK, MUTED
from transvae_dashboards.tables import SIZE_NAMES
from transvae_platform.study.state import TrialState

ToX = Callable[[Any], np.ndarray]


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
    """A dotted line per change of phase, named at the top."""
    for step, word in phases(trial):
        x = float(to_x([step])[0])
        axes.axvline(x, color=MUTED, lw=0.7, ls=":")
        axes.annotate(word, (x, 1), xycoords=axes.get_xaxis_transform(), xytext=(3, -2), textcoords="offset points",
                      fontsize=7, color=MUTED, va="top")  # fmt: skip


def draw_marks(axes: Any, trial: TrialState, history: History, to_x: ToX) -> None:
    """On the x axis: a triangle where an attempt resumed, a diamond where one was preempted, a cross after a failure.

    An arrow head pointing left marks where the guard went back to.
    """
    for number, span in enumerate(history.spans):
        if number:
            _mark(axes, to_x, span.resumed_from, "^", trial)
        if span.how == "preempted":
            _mark(axes, to_x, span.step, "D")
        if span.how in ("failed", "died"):
            _mark(axes, to_x, span.step, "x")
    for rewind in trial.rewound:
        _mark(axes, to_x, rewind["to"], "<", trial)


def _mark(axes: Any, to_x: ToX, step: int, marker: str, named: TrialState | None = None) -> None:
    x = float(to_x([step])[0])
    axes.plot([x], [0], marker=marker, ms=4.5 if marker != "D" else 3.5, color=INK, clip_on=False, ls="none",
              transform=axes.get_xaxis_transform())  # fmt: skip
    if named is not None:
        axes.annotate(
            SIZE_NAMES.get(named.trial.size, named.trial.size), (x, 0), xytext=(0, 5), textcoords="offset points",
            xycoords=axes.get_xaxis_transform(), ha="center", fontsize=7.5, color=INK,
        )  # fmt: skip
