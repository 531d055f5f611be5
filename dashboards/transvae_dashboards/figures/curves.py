"""Learning curves: any metric of the journals against step, images, FLOPs or device-hours, one panel per family.

Curves are drawn from points of the journals, thinned without losing an extreme (`follow/thinning.py`).
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba

from transvae_dashboards import formats
from transvae_dashboards.figures.axes import end_labels, log_axis, padded
from transvae_dashboards.figures.canvas import Panel, canvas
from transvae_dashboards.figures.marks import draw_marks, draw_phases, marks_of
from transvae_dashboards.follow.columns import SECONDS, Curve
from transvae_dashboards.follow.study import FollowedStudy
from transvae_dashboards.follow.thinning import kept
from transvae_dashboards.style import COLOURS, INK, line_width, opacity
from transvae_dashboards.tables import FAMILY_NAMES, SIZE_NAMES, rank_of
from transvae_platform.study.state import TrialState

OPENING = 0.1
"""Share of x that does not count for the range of y: the first losses would squash the rest."""
POINTS = 16_000
"""Of all curves of a chart together: more would make pages of megabytes (assumption)."""
FEWEST_BINS = 40
FEW = 60
"""Validations, and lines, up to which every validation has a dot (assumption: more dots hide the lines)."""
XName = Literal["step", "images", "flops", "hours"]
X_AXES: dict[XName, str] = {
    "step": "step", "images": "images seen",
    "flops": "training FLOPs = 2 × multiply-adds, forward + backward,\nencoder + decoder, loss networks excluded",
    "hours": "device-hours (devices × hours of training)",
}  # fmt: skip
LINEAR = ("psnr", "ssim", "learning_rate")
"""Metrics whose axis is linear unless asked otherwise."""


@dataclass(frozen=True)
class Look:
    """What a chart of curves shows: the metric without `train/` or `val/`, and the axes."""

    metric: str = "l1"
    x: XName = "step"
    x_log: bool = False
    y_log: bool | None = None
    """None: logarithmic for what falls towards zero."""

    @property
    def logarithmic(self) -> bool:
        return self.metric not in LINEAR if self.y_log is None else self.y_log


@dataclass(frozen=True)
class Line:
    """One trial's curves, x as asked for."""

    trial: TrialState
    train: Curve
    validation: Curve

    @property
    def last(self) -> tuple[float, float]:
        x, y = self.validation if len(self.validation[0]) else self.train
        return float(x[-1]), float(y[-1])


def metric_names(state: FollowedStudy, trials: Sequence[TrialState]) -> list[str]:
    """What can be drawn of these trials, without `train/` and `val/`; the usual ones first."""
    found = {name.partition("/")[2] or name for trial in trials for name in state.columns(trial).names}
    found |= {name.removeprefix("val/") for t in trials for r in t.validation.values() for name in r["metrics"]}
    usual = [name for name in ("l1", "psnr", "ssim", "mse", "loss") if name in found]
    return usual + sorted(found.difference(usual, [SECONDS]))


def lines_of(state: FollowedStudy, trials: Sequence[TrialState], look: Look) -> list[Line]:
    """The trials that have the metric, thinned to what a chart can show."""
    bins = max(POINTS // (2 * max(len(trials), 1)), FEWEST_BINS)
    lines = []
    for trial in trials:
        train = _train(state, trial, look.metric)
        found = sorted((step, record["metrics"].get(f"val/{look.metric}")) for step, record in trial.validation.items())
        points = [(step, value) for step, value in found if value is not None]
        validation = (np.array([p[0] for p in points], float), np.array([p[1] for p in points], float))
        line = Line(trial, *(_on_axis(state, trial, curve, look, bins) for curve in (train, validation)))
        if len(line.train[0]) or len(line.validation[0]):
            lines.append(line)
    return lines


def curve_panels(
    state: FollowedStudy, trials: Sequence[TrialState], look: Look, to: Callable[[TrialState], str | None] | None = None
) -> list[Panel]:
    """One panel per family that has the metric.

    Args:
        to: the address of a trial's own page, which its lines lead to.
    """
    lines = lines_of(state, trials, look)
    if not lines:
        return []
    limits = _limits(lines, look)
    families = sorted(dict.fromkeys(line.trial.trial.family for line in lines), key=rank_of)
    return [
        _panel(state, family, [line for line in lines if line.trial.trial.family == family], look, limits, to)
        for family in families
    ]


def _panel(
    state: FollowedStudy, family: str, lines: Sequence[Line], look: Look,
    limits: tuple[tuple[float, float], tuple[float, float]], to: Callable[[TrialState], str | None] | None,
) -> Panel:  # fmt: skip
    name, colour = FAMILY_NAMES.get(family, family), COLOURS.get(family, INK)
    label = f"{name}: {look.metric} against {look.x}, training and validation, one line per trial"
    with canvas(f"curves-{look.metric}-{look.x}-{family}", label, of=family) as drawing:
        axes, ends = drawing.axes, defaultdict(list)
        draw_lines(axes, lines, to)
        for line in lines:
            ends[name_of(line.trial)].append(line.last)
        axes.set_title(name, color=colour)
        frame(axes, look, limits)
        draw_phases(axes, lines[0].trial, partial(x_of, state, lines[0].trial, x=look.x))
        draw_marks(
            axes,
            [mark for line in lines for mark in marks_of(line.trial, state.history(line.trial),
                                                         partial(x_of, state, line.trial, x=look.x))],
        )  # fmt: skip
        # the seeds of a size share one label, at their mean
        end_labels(axes, [
            (max(x for x, _ in points), statistics.fmean(y for _, y in points), name, colour)
            for name, points in ends.items()
        ])  # fmt: skip
    return drawing.panel[0]


def draw_lines(
    axes: Any, lines: Sequence[Line], to: Callable[[TrialState], str | None] | None = None,
    styles: Sequence[Any] | None = None,
) -> None:  # fmt: skip
    """Thin for training batches, strong for held-out images, dotted for variants unless `styles` say otherwise."""
    drawn = [
        _Drawn(line, style or (":" if is_variant(line.trial) else "-"), to(line.trial) if to else None)
        for line, style in zip(lines, styles or [None] * len(lines), strict=True)
    ]
    _collect(axes, [(one.line.train, one, not len(one.line.validation[0])) for one in drawn])
    _collect(axes, [(one.line.validation, one, True) for one in drawn])
    for one in drawn:
        if 0 < len(one.line.validation[0]) < FEW and len(lines) < FEW:
            axes.plot(*one.line.validation, color=one.colour, alpha=one.opacity, marker="o", ms=2.4, ls="none")


@dataclass(frozen=True)
class _Drawn:
    line: Line
    style: Any
    url: str | None

    @property
    def colour(self) -> str:
        return COLOURS.get(self.line.trial.trial.family, INK)

    @property
    def opacity(self) -> float:
        return opacity(self.line.trial.trial.size)


def _collect(axes: Any, curves: Sequence[tuple[Curve, _Drawn, bool]]) -> None:
    """One artist for many lines: one each would take most of the time."""
    shown = [(curve, one, strong) for curve, one, strong in curves if len(curve[0])]
    widths = [line_width(one.line.trial.trial.size) * (1.0 if strong else 0.55) + 0.1 for _, one, strong in shown]
    colours = [to_rgba(one.colour, one.opacity if strong else 0.22 + 0.2 * one.opacity) for _, one, strong in shown]
    segments = [np.column_stack(curve) for curve, _, _ in shown]
    styles, urls = [one.style for _, one, _ in shown], [one.url for _, one, _ in shown]
    collection = LineCollection(segments, linewidths=widths, colors=colours, linestyles=styles)
    collection.set_urls(urls)
    axes.add_collection(collection, autolim=False)


def frame(axes: Any, look: Look, limits: tuple[tuple[float, float], tuple[float, float]]) -> None:
    """Limits, scales and names of both axes."""
    (left, right), (low, high) = limits
    axes.set_xlabel(X_AXES[look.x])
    if look.x_log:
        log_axis(axes.xaxis, left, right, formats.UNITS)
    else:
        axes.set_xlim(left, right)
        axes.xaxis.set_major_formatter(lambda value, _: formats.tick(value, formats.UNITS))
    if look.logarithmic:
        log_axis(axes.yaxis, low, high)
    else:
        axes.set_ylim(low, high)


def limits_of(lines: Sequence[Line], look: Look) -> tuple[tuple[float, float], tuple[float, float]]:
    """The ranges of x and y that one scale for all panels takes."""
    return _limits(lines, look)


def is_variant(trial: TrialState) -> bool:
    """Whether a model differs from its family's own; a generator's variant says whose latents it learned."""
    return trial.trial.variant != "base" and trial.trial.generator is None


def name_of(trial: TrialState) -> str:
    """How a line is labelled inside its family's panel."""
    variant = trial.trial.variant
    return SIZE_NAMES.get(trial.trial.size, trial.trial.size) + ("" if variant == "base" else f" {variant}")


def x_of(state: FollowedStudy, trial: TrialState, steps: Any, x: XName) -> np.ndarray:
    """Steps of a trial in the unit of an axis."""
    steps = np.asarray(steps, dtype=np.float64)
    if x == "step":
        return steps
    if x == "hours":
        at, seconds = state.columns(trial).curve(SECONDS)
        if not len(at):
            return np.zeros_like(steps)
        hours = np.interp(steps, np.insert(at, 0, 0), np.insert(seconds, 0, 0)) / 3600
        return np.asarray(hours * trial.trial.workers.workers)
    images = steps * trial.trial.recipe.batch_size
    return images if x == "images" else images * trial.cost.get("training_flops", 0.0)


def _train(state: FollowedStudy, trial: TrialState, metric: str) -> Curve:
    columns = state.columns(trial)
    return columns.curve(f"train/{metric}" if f"train/{metric}" in columns.names else metric)


def _on_axis(state: FollowedStudy, trial: TrialState, curve: Curve, look: Look, bins: int) -> Curve:
    steps, values = curve
    shown = np.isfinite(values)
    if look.logarithmic:
        shown &= values > 0
    if look.x_log:
        shown &= steps > 0
    steps, values = steps[shown], values[shown]
    chosen = kept(steps, values, bins)
    return x_of(state, trial, steps[chosen], look.x), values[chosen]


def _limits(lines: Sequence[Line], look: Look) -> tuple[tuple[float, float], tuple[float, float]]:
    curves = [curve for line in lines for curve in (line.train, line.validation) if len(curve[0])]
    right = max(float(x[-1]) for x, _ in curves)
    left = min(float(x[x > 0].min(initial=right)) for x, _ in curves) if look.x_log else 0.0
    settled = [y[x >= OPENING * right] for x, y in curves] if not look.x_log else []
    values = np.concatenate(settled) if sum(map(len, settled)) else np.concatenate([y for _, y in curves])
    if look.logarithmic:
        span = padded([float(values.min()), float(values.max())], 0.05)
    else:
        margin = 0.05 * float(np.ptp(values)) or 0.05 * abs(float(values[0])) or 1.0
        span = (float(values.min()) - margin, float(values.max()) + margin)
    return (left, right * 1.02 if look.x_log else right or 1.0), span
