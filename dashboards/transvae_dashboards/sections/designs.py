"""What a study's design may not support: IsoFLOP and the frontier over compute; else a placard that says why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from transvae_dashboards import captions, formats
from transvae_dashboards.figures.frontier import frontier_panel, isoflop_panel
from transvae_dashboards.icons import family_mark
from transvae_dashboards.markup import Html, join, section, table, tag
from transvae_dashboards.sections.charts import figure
from transvae_dashboards.tables import FAMILIES, FAMILY_NAMES, METRIC_NAMES, TrialRow
from transvae_platform.fitting import FitReport
from transvae_platform.fitting.views.envelope import running_envelope
from transvae_platform.fitting.views.isoflop import IsoFlop, isoflop

LEAD = (
    "Views, not headlines: parabolas over sizes are biased even without noise, and an envelope chooses the luckiest "
    "runs. Finished trials of the base variant, at their last step only: points along a schedule are no shorter "
    "trainings."
)
FEWEST = 3
"""Trainings on the lower envelope that are worth a line (as `transvae fit --form envelope`)."""


def designs(rows: Sequence[TrialRow], fits: Mapping[str, FitReport], study: str) -> Html:
    """The section: IsoFLOP by family, and the frontier over all."""
    metric = next(iter(fits.values())).metric
    shown = [
        r for r in rows if r.finished and r.variant == "base" and (r.metric(metric) or 0) > 0 and r.training_flops > 0
    ]
    parts = [_isoflop(shown, metric, study), _frontier(shown, metric, study)]
    return section("Optimal size and frontier over compute", *parts, anchor="designs", lead=LEAD)


def placard(title: str, why: str) -> Html:
    """Where a chart would mislead: its name, and why it is not there."""
    return tag("div", tag("h4", f"{title}: not drawn"), tag("p", why), class_="placard")


def _isoflop(rows: Sequence[TrialRow], metric: str, study: str) -> Html:
    found: dict[str, IsoFlop] = {}
    for family in FAMILIES:
        own = [row for row in rows if row.family == family]
        if own:
            columns = ([r.training_flops for r in own], [r.parameters for r in own], [r.metric(metric) for r in own])
            found[family] = isoflop(*(np.array(column, dtype=np.float64) for column in columns))
    if not found:
        return placard("IsoFLOP", "No trial has finished yet.")
    drawn = {family: answer for family, answer in found.items() if answer.line is not None}
    reasons: dict[str, list[str]] = {}
    for family, answer in found.items():
        if answer.refused:
            reasons.setdefault(answer.refused, []).append(FAMILY_NAMES[family])
    refused = [
        placard(f"IsoFLOP of {', '.join(names)}", f"{reason[:1].upper()}{reason[1:]}.")
        for reason, names in reasons.items()
    ]
    if not drawn:
        return join(refused)
    body = [
        [family_mark(family), formats.number(answer.line.exponent, 3), formats.number(answer.bias, 3),
         str(answer.line.points)]
        for family, answer in drawn.items()
        if answer.line is not None
    ]  # fmt: skip
    head = ["Family", "Exponent of the optimal size over compute", "Bias of this procedure", "Levels"]
    numbers = table(head, body, label="Optimal size over compute")
    runs = {
        f: [(r.training_flops, float(r.parameters), r.metric(metric) or 0.0) for r in rows if r.family == f]
        for f in drawn
    }
    panel = isoflop_panel(runs, drawn, metric)
    caption = f"{panel.label}. {captions.of_rows(study, [row for row in rows if row.family in drawn])}"
    return join([tag("h3", "IsoFLOP"), tag("div", figure(panel, caption), numbers, class_="pair"), *refused])


def _frontier(rows: Sequence[TrialRow], metric: str, study: str) -> Html:
    if not rows:
        return Html("")
    x, y = np.array([r.training_flops for r in rows]), np.array([r.metric(metric) for r in rows], dtype=np.float64)
    on_x, on_y = running_envelope(x, y)
    if len(on_x) < FEWEST:
        why = (
            f"{len(on_x)} of {len(rows)} finished trainings are better than every cheaper one, and a frontier takes "
            f"{FEWEST}: larger trainings that pay for themselves would make one."
        )
        return placard("Frontier", why)
    members = [
        row
        for row in rows
        if any(row.training_flops == a and row.metric(metric) == b for a, b in zip(on_x, on_y, strict=True))
    ]
    body = [
        [family_mark(row.family), row.size, str(row.seed), formats.scaled(row.training_flops),
         formats.number(row.metric(metric), 4)]
        for row in sorted(members, key=lambda row: row.training_flops)
    ]  # fmt: skip
    name = METRIC_NAMES.get(metric, metric)
    numbers = table(["Family", "Size", "Seed", "Training FLOPs", name], body, label="Frontier over compute", text=(1,))
    panel = frontier_panel(rows, (on_x, on_y), metric)
    caption = f"{panel.label}. {captions.of_rows(study, rows)}"
    return join([tag("h3", "Frontier"), tag("div", figure(panel, caption), numbers, class_="pair")])
