"""What a calibration found: the loss of every rate and the best one of each size."""

from __future__ import annotations

from transvae_dashboards import captions, formats
from transvae_dashboards.figures.learning_rates import rate_panels
from transvae_dashboards.icons import family_mark
from transvae_dashboards.markup import Html, section, table, tag
from transvae_dashboards.sections.charts import figure
from transvae_dashboards.tables import FAMILIES, METRIC_NAMES, SIZE_NAMES
from transvae_platform.study.calibration import outcomes
from transvae_platform.study.state import StudyState

TITLE = "Learning rates"
LEAD = (
    "Final loss on held-out images after the whole training, one line per size. Filled: the best rate. Cross: a rate "
    "that was ended early at one of the sizes, or broke down. Rates compete within their family and size only. The "
    "optimum is the lowest point of the parabola through the best rate and its two neighbours, over the logarithm of "
    "the rate."
)


def rates(state: StudyState) -> Html:
    """Charts, and the table of all rates."""
    metric = state.spec["fits"]["metric"]
    found = sorted(outcomes(state), key=lambda outcome: FAMILIES.index(outcome.family))  # sizes stay in their order
    if not found:
        nothing = tag("p", "Nothing to draw yet: this needs a finished trial.", class_="missing")
        return section(TITLE, nothing, anchor="rates")
    tried = state.spec["calibration"]["learning_rates"]
    body = [
        [
            Html(f"{family_mark(outcome.family)} <b>{SIZE_NAMES[outcome.size]}</b>"),
            *(_cell(outcome.losses.get(rate), rate == outcome.best, outcome.ended.get(rate)) for rate in tried),
            f"{outcome.best:g}" + (" (edge)" if outcome.at_edge else ""),
            formats.NONE if outcome.optimum is None else f"{outcome.optimum:.2g}",
        ]
        for outcome in found
    ]
    head = ["Size", *(f"{rate:g}" for rate in tried), "Best", "Optimum"]
    name = METRIC_NAMES.get(metric, metric)
    ended = [trial for trial in state.autoencoders if trial.final]
    charts = [
        figure(panel, f"Final {name} against the learning rate, a line per size. "
               + captions.of_trials(state.name, [trial for trial in ended if trial.trial.family == panel.of]))
        for panel in rate_panels(found, name)
    ]  # fmt: skip
    return section(
        TITLE,
        tag("div", *charts, class_="panels"),
        table(head, body, label=f"{name} by learning rate"),
        anchor="rates",
        lead=LEAD,
    )


def _cell(loss: float | None, is_best: bool, ended: str | None) -> Html | str:
    if loss is None:
        return tag("span", "ended", title=ended or "")
    text = formats.number(loss, 4)
    return tag("b", text) if is_best else text
