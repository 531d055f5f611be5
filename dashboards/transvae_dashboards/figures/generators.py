"""Figure 6: how good the samples of generators are along their training, one panel per generator, one line per latent.

The Fréchet distance where the study measures it, else the loss on held-out latents.
"""

from __future__ import annotations

from collections.abc import Sequence

from transvae_dashboards.figures.axes import end_labels, log_axis, padded
from transvae_dashboards.figures.canvas import Panel, canvas
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


def generator_panels(state: StudyState) -> list[Panel]:
    """One panel per generator with a validation, the largest first."""
    shown = [trial for trial in state.generators if trial.validation]
    metric = metric_of(shown)
    if metric is None:
        return []
    sizes = dict.fromkeys(trial.trial.size for trial in sorted(shown, key=lambda t: -t.cost.get("parameters", 0.0)))
    return [_panel(size, [trial for trial in shown if trial.trial.size == size], metric) for size in sizes]


def _panel(size: str, trials: Sequence[TrialState], metric: str) -> Panel:
    ends, values = [], []
    with canvas(f"generators-{size}", f"{NAMES[metric]} against training step by {size}, a line per latent") as drawing:
        axes = drawing.axes
        for trial in trials:
            found = ((step, record["metrics"][metric]) for step, record in sorted(trial.validation.items()))
            points = [(step, value) for step, value in found if value is not None and value > 0]
            if not points:
                continue
            made = [family for family in COLOURS if source_of(trial).startswith(f"{family}-")]
            colour = COLOURS[made[0]] if made else INK
            axes.plot(*zip(*points, strict=True), color=colour, marker="o", ms=2.4, lw=1.2)
            ends.append((float(points[-1][0]), float(points[-1][1]), source_of(trial), colour))
            values += [value for _, value in points]
        axes.set_xlim(0, max(trial.trial.recipe.steps for trial in trials))
        axes.set_xlabel("step")
        axes.set_title(f"{size}: {NAMES[metric]}", color=INK)
        if values:
            log_axis(axes.yaxis, *padded(values))
        end_labels(axes, ends)
    return drawing.panel[0]
