"""How far the laws may be trusted: residuals, the profile of alpha and E, other deltas, and each size left out once."""

from __future__ import annotations

import numpy as np

from transvae_dashboards import captions, formats
from transvae_dashboards.figures.profile import profile_panels
from transvae_dashboards.figures.residuals import RUN, residual_panel, runs_of_sign
from transvae_dashboards.icons import family_mark
from transvae_dashboards.laws import in_order
from transvae_dashboards.markup import Html, join, section, table, tag
from transvae_dashboards.sections.charts import figure
from transvae_dashboards.tables import FAMILY_NAMES, SIZE_NAMES, X_WORDS
from transvae_platform.fitting import FamilyFit, FitReport
from transvae_platform.fitting.solve import Solution, make_problem, solve
from transvae_platform.fitting.sweep import family_sweep

RESIDUALS = (
    "How far the mean of each size lies from its family's law, in percent of the mean. Darker band: one standard "
    "deviation of seeds, where a size has several. Lighter band: the scatter about the laws that their intervals use, "
    "the largest of the families. Several residuals of equal sign in a row speak against the form of the law."
)
SENSITIVITY = (
    "What the fits would say under other choices, which is no interval: where these numbers lie far apart, one size "
    "decides. Least squares of relative residuals is the fit above; delta is the bound of a Huber loss on residuals of "
    "logarithms (inf: none). A size is left out where at least four others remain."
)
LEAST = 4
"""Sizes that a law with three parameters needs, as for the fits themselves."""


def residuals(report: FitReport, study: str) -> Html:
    """Chart, and what speaks against the laws."""
    title, panel = f"Residuals over {X_WORDS[report.x_name]}", residual_panel(report)
    anchor = f"residuals-{report.x_name.replace('_', '-')}"
    if panel is None:
        return section(title, tag("p", "No family has a law yet.", class_="missing"), anchor=anchor)
    runs = [(fit, runs_of_sign(fit)) for fit in in_order(report) if fit.residuals]
    found = [
        tag("li", f"{FAMILY_NAMES[fit.family]}: {count} residuals of equal sign in a row, of {fit.n_sizes}.")
        for fit, count in runs
        if count >= RUN
    ]
    said = tag("ul", *found) if found else tag("p", f"No family has {RUN} residuals of equal sign in a row.")
    lawful = [fit.family for fit, _ in runs]
    caption = f"Residuals of the size means from the laws, in percent. {captions.of_fit(study, report, lawful)}"
    return section(title, tag("div", figure(panel, caption), said, class_="pair"), anchor=anchor, lead=RESIDUALS)


def sensitivity(report: FitReport, study: str) -> Html:
    """Profiles, and a table of alphas under other choices."""
    over = X_WORDS[report.x_name]
    title, anchor = f"Sensitivity over {over}", f"sensitivity-{report.x_name.replace('_', '-')}"
    fits = [fit for fit in in_order(report) if fit.law is not None and fit.alpha is not None]
    if not fits:
        return section(title, tag("p", "No family has a law yet.", class_="missing"), anchor=anchor)
    panels = profile_panels(report)
    used = captions.of_fit(study, report, [fit.family for fit in fits])
    drawn = [figure(panel, f"{panel.label}. {used}") for panel in panels]
    charts = tag("div", *drawn, class_="panels") if drawn else Html("")
    return section(title, charts, join([_sweep(fits, over), _left_out(fits, over)]), anchor=anchor, lead=SENSITIVITY)


def _sweep(fits: list[FamilyFit], over: str) -> Html:
    swept = {fit.family: family_sweep(fit) for fit in fits}
    deltas = [str(found.delta) for found in next(iter(swept.values()))]
    body = [
        [
            family_mark(fit.family),
            formats.number(fit.alpha),
            *(formats.number(found.alpha) for found in swept[fit.family]),
        ]
        for fit in fits
    ]
    head = ["alpha", "Least squares", *(f"delta {delta}" for delta in deltas)]
    return table(head, body, label=f"alpha over {over} by delta")


def _left_out(fits: list[FamilyFit], over: str) -> Html:
    names = list(dict.fromkeys(size.size for fit in fits for size in fit.sizes))
    body = [[family_mark(fit.family), *(_without(fit, name) for name in names)] for fit in fits if fit.n_sizes > LEAST]
    if not body:
        return tag("p", f"No family has more than {LEAST} sizes: none can be left out.", class_="missing")
    return table(
        ["alpha", *(f"without {SIZE_NAMES.get(name, name)}" for name in names)], body,
        label=f"alpha over {over} without each size",
    )  # fmt: skip


def _without(fit: FamilyFit, name: str) -> str:
    rest = [size for size in fit.sizes if size.size != name]
    if len(rest) == fit.n_sizes:
        return formats.NONE
    found: Solution = solve(make_problem(np.array([s.x for s in rest]), np.array([s.mean for s in rest])))
    if found.law.alpha is None:
        return "flat"
    return "at the limit" if found.at_limit else formats.number(found.law.alpha)
