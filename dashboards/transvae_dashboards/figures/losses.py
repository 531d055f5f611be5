"""Training and validation loss against step: one panel per family, one scale for all."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from transvae_dashboards.figures.axes import end_labels, log_axis, padded
from transvae_dashboards.figures.canvas import Panel, canvas
from transvae_dashboards.style import COLOURS, INK, line_width, opacity
from transvae_dashboards.tables import FAMILIES, FAMILY_NAMES, SIZE_NAMES, ordered
from transvae_platform.study.state import StudyState, TrialState

TRAIN, VALIDATION = "train/l1", "val/l1"
OPENING = 0.1
"""Share of the steps that does not count for the range of y: the first losses would squash the rest."""
Series = list[tuple[int, float]]


def loss_panels(state: StudyState) -> list[Panel]:
    """One panel per family that has any loss yet."""
    trials = [trial for trial in ordered(state.autoencoders) if _series(trial, TRAIN) or _series(trial, VALIDATION)]
    if not trials:
        return []
    steps = max(trial.trial.recipe.steps for trial in trials)
    limits = _limits(trials, steps)
    families = [family for family in FAMILIES if any(trial.trial.family == family for trial in trials)]
    return [_panel(family, [t for t in trials if t.trial.family == family], limits, steps) for family in families]


def _panel(family: str, trials: Sequence[TrialState], limits: tuple[float, float], steps: int) -> Panel:
    label = f"{FAMILY_NAMES[family]}: L1 against training step, training and validation, one line per size"
    colour = COLOURS[family]
    with canvas(f"loss-{family}", label) as drawing:
        axes = drawing.axes
        ends: dict[str, Series] = defaultdict(list)
        for trial in trials:
            size, base = trial.trial.size, trial.trial.variant == "base"
            width, alpha = line_width(size), opacity(size)
            train, validation = _series(trial, TRAIN), _series(trial, VALIDATION)
            if train:
                axes.plot(*zip(*train, strict=True), color=colour, lw=0.5 * width, alpha=0.35 * alpha)
            if validation:
                axes.plot(
                    *zip(*validation, strict=True), color=colour, lw=width, alpha=alpha, ls="-" if base else ":",
                    marker="o", ms=2.4,
                )  # fmt: skip
            name = SIZE_NAMES[size] + ("" if base else f" {trial.trial.variant}")
            ends[name].append((validation or train)[-1])
            _restarts(axes, trial)
        axes.set_xlim(0, steps)
        axes.set_xlabel("step")
        axes.set_title(FAMILY_NAMES[family], color=colour)
        log_axis(axes.yaxis, *limits)
        # the seeds of a size share one label, at their mean
        end_labels(axes, [
            (max(x for x, _ in points), statistics.fmean(y for _, y in points), name, colour)
            for name, points in ends.items()
        ])  # fmt: skip
    return drawing.panel[0]


def _restarts(axes: Any, trial: TrialState) -> None:
    """A triangle on the step axis where an attempt took over from an earlier one, with the size's letter."""
    for start in trial.started[1:]:
        axes.plot(
            [start["resumed_from"]],
            [0],
            marker="^",
            ms=4.5,
            color=INK,
            clip_on=False,
            transform=axes.get_xaxis_transform(),
        )
        axes.annotate(
            SIZE_NAMES[trial.trial.size],
            (start["resumed_from"], 0),
            xytext=(0, 5),
            textcoords="offset points",
            xycoords=axes.get_xaxis_transform(),
            ha="center",
            fontsize=7.5,
            color=INK,
        )


def _series(trial: TrialState, metric: str) -> Series:
    records = trial.train if metric == TRAIN else trial.validation
    found = ((step, records[step]["metrics"].get(metric)) for step in sorted(records))
    # a loss that was not finite stands as null in the journal
    return [(step, value) for step, value in found if value is not None and value > 0]


def _limits(trials: Sequence[TrialState], steps: int) -> tuple[float, float]:
    points = [point for trial in trials for metric in (TRAIN, VALIDATION) for point in _series(trial, metric)]
    settled = [value for step, value in points if step >= OPENING * steps]
    return padded(settled or [value for _, value in points], 0.05)
