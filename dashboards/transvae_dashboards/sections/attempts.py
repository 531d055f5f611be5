"""When trials ran: the timeline of attempts, and a table of those that did not simply end."""

from __future__ import annotations

from transvae_dashboards import captions, formats
from transvae_dashboards.figures.timeline import timeline_panel
from transvae_dashboards.icons import family_mark
from transvae_dashboards.markup import Html, details, section, table, tag
from transvae_dashboards.scene import Scene
from transvae_dashboards.sections.charts import figure
from transvae_dashboards.tables import FAMILY_NAMES, ordered

LEAD = (
    "One row per trial, a bar per attempt, by the clocks of the machines that ran them (which may be wrong: durations "
    "elsewhere are differences of one steady clock). Dotted between bars: waiting for a place. Diamond: preempted, the "
    "work saved. Cross: failed. Triangle: ended without a word, as killed processes do. Square: ended by the study. "
    "Arrow: running. Dotted lines: submissions."
)


def attempts(scene: Scene) -> Html:
    """The section with the timeline."""
    state = scene.state
    trials = [*ordered(state.autoencoders), *state.generators]
    panel = timeline_panel(state, trials)
    if panel is None:
        return section("Attempts", tag("p", "No trial has begun yet.", class_="missing"), anchor="attempts")
    body = [
        [
            family_mark(trial.trial.family) if trial.trial.family in FAMILY_NAMES else "Generator",
            scene.named(trial, f"{trial.trial.label} seed {trial.trial.seed}"), str(number),
            formats.moment(span.start), f"{span.resumed_from:,}", f"{span.step:,}", span.how,
        ]
        for trial in trials
        for number, span in enumerate(state.history(trial).spans, start=1)
    ]  # fmt: skip
    head = ["Family", "Trial", "Attempt", "Began", "From step", "To step", "How it ended"]
    numbers = details(f"All {len(body)} attempts", table(head, body, label="Attempts", text=(1, 3, 6)))
    begun = [trial for trial in trials if state.history(trial).spans]
    chart = figure(panel, f"{panel.label}. {captions.of_trials(state.name, begun)}")
    return section("Attempts", tag("div", chart, class_="wide"), numbers, anchor="attempts", lead=LEAD)
