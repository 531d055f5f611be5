"""What generators made of the autoencoders' latents: figure 6, and how every trial of one stands."""

from __future__ import annotations

from transvae_dashboards import captions, formats
from transvae_dashboards.figures.generators import NAMES, generator_panels, metric_of, source_of, words_of
from transvae_dashboards.markup import Html, section, table, tag
from transvae_dashboards.scene import Scene
from transvae_dashboards.sections.charts import figure
from transvae_platform.study.state import StudyState, TrialState

LEAD = (
    "Each generator on the latents of each autoencoder, sampled with its averaged weights at every validation. Lines "
    "compare within a panel only, and a distance only with one of the same number of samples, sampler and reference."
)
RANDOM = (
    " Inception has random weights in this study: its distance tests the line, is no FID and compares with no other "
    "study's."
)


def generators(scene: Scene) -> Html:
    """Charts, and the table of all generator trials."""
    state = scene.state
    panels, metric = generator_panels(state, scene.trial), metric_of(state.generators)
    drawn = [figure(panel, f"{panel.label}. {_runs(state, panel.of)}") for panel in panels]
    nothing = "Nothing to draw yet: the first validation of a generator makes the first point."
    charts = tag("div", *drawn, class_="panels") if drawn else tag("p", nothing, class_="missing")
    head = ["Generator", "Latents of", "Seed", "Parameters", "State", "Step", NAMES[metric or "val/loss"], "Samples"]
    body = [_row(scene, trial, metric) for trial in state.generators]
    lead = LEAD + (RANDOM if metric == "val/gfid_random" else "")
    return section(
        "Generators", charts, table(head, body, label="Generators", text={1, 4, 7}), anchor="generators", lead=lead
    )


def _row(scene: Scene, trial: TrialState, metric: str | None) -> list[str]:
    last = trial.validation[max(trial.validation)]["metrics"] if trial.validation else {}
    state = trial.state + (f": {trial.reason}" if trial.reason else "")
    return [
        scene.named(trial, trial.trial.size), source_of(trial), str(trial.trial.seed),
        formats.parameters(trial.cost["parameters"]), state, f"{trial.step:,}",
        formats.significant(last.get(metric or ""), 4), words_of(trial),
    ]  # fmt: skip


def _runs(state: StudyState, size: str) -> str:
    shown = [trial for trial in state.generators if trial.trial.size == size and trial.validation]
    return captions.of_trials(state.name, shown)
