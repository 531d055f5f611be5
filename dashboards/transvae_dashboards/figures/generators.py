"""Figure 6: how good the samples of generators are along their training, one panel per generator, one line per latent.

The Fréchet distance where the study measures it, else the loss on held-out latents.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from transvae_dashboards.figures.axes import end_labels, log_axis, padded
from transvae_dashboards.figures.canvas import HEIGHT, Panel, canvas
from transvae_dashboards.style import COLOURS, INK
from transvae_platform.study.state import StudyState, TrialState

NAMES = {
    "val/gfid": "FID of samples",
    "val/gfid_random": "Fréchet distance of random features (no FID)",
    "val/loss": "loss on held-out latents",
}
"""The metrics of a generator, the most telling one first. What random networks compute is not called FID."""


def metric_of(trials: Sequence[TrialState]) -> str | None:
    """The most telling metric that all trials with a validation have; None before the first validation."""
    known = [record["metrics"].keys() for trial in trials for record in trial.validation.values()]
    return next((metric for metric in NAMES if known and all(metric in keys for keys in known)), None)


def source_of(trial: TrialState) -> str:
    """What made the latents, e.g. `transvae-T`."""
    return trial.trial.variant.removeprefix("on-")


def words_of(trial: TrialState) -> str:
    """How the samples were drawn, with all that the number depends on."""
    of = trial.trial.generator
    assert of is not None
    if of.curve is None:
        return "not measured"
    sampler = of.sampler
    how = f"euler, {sampler.times} times, shift {sampler.shift:g}" if sampler.method == "euler" else "dopri5"
    guidance = f"guidance {sampler.guidance.scale:g}" if sampler.guidance else "no guidance"
    return f"n = {of.curve.samples:,}, {how}, {guidance}, {sampler.labels} labels, seed {sampler.seed}"


def generator_panels(state: StudyState, to: Callable[[TrialState], str | None] | None = None) -> list[Panel]:
    """One panel per generator with a validation, the largest first.

    Args:
        to: the address of a trial's own page, which its line leads to.
    """
    shown = [trial for trial in state.generators if trial.validation]
    metric = metric_of(shown)
    if metric is None:
        return []
    sizes = dict.fromkeys(trial.trial.size for trial in sorted(shown, key=lambda t: -t.cost.get("parameters", 0.0)))
    return [_panel(size, [trial for trial in shown if trial.trial.size == size], metric, to) for size in sizes]


def _panel(
    size: str, trials: Sequence[TrialState], metric: str, to: Callable[[TrialState], str | None] | None
) -> Panel:
    label = f"{NAMES[metric]} against training step by {size}, a line per latent"
    ends: dict[str, list[tuple[float, float]]] = {}
    colours, values = {}, []
    # as tall as its labels, of which each autoencoder has one, need
    height = max(HEIGHT, 0.6 + 0.15 * len({source_of(trial) for trial in trials}))
    with canvas(f"generators-{size}", label, height=height, of=size) as drawing:
        axes = drawing.axes
        for trial in trials:
            found = ((step, record["metrics"][metric]) for step, record in sorted(trial.validation.items()))
            points = [(step, value) for step, value in found if value is not None and value > 0]
            if not points:
                continue
            made = [family for family in COLOURS if source_of(trial).startswith(f"{family}-")]
            colour = COLOURS[made[0]] if made else INK
            (line,) = axes.plot(*zip(*points, strict=True), color=colour, marker="o", ms=2.4, lw=1.2)
            line.set_url(to(trial) if to else None)
            ends.setdefault(source_of(trial), []).append((float(points[-1][0]), float(points[-1][1])))
            colours[source_of(trial)] = colour
            values += [value for _, value in points]
        axes.set_xlim(0, max(trial.trial.recipe.steps for trial in trials))
        axes.set_xlabel("step")
        axes.set_title(f"{size}: {NAMES[metric]}", color=INK)
        if values:
            log_axis(axes.yaxis, *padded(values))
        # the seeds of an autoencoder share one label, at their mean
        end_labels(axes, [
            (found[0][0], statistics.fmean(y for _, y in found), name, colours[name]) for name, found in ends.items()
        ])  # fmt: skip
    return drawing.panel[0]
