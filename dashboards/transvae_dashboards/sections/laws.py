"""The fitted laws in tables: estimates with intervals, back-test, comparisons, refusals, excluded trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transvae_dashboards import captions, formats
from transvae_dashboards.figures.forest import alpha_bar, forest_panels, gain_bar
from transvae_dashboards.icons import family_mark
from transvae_dashboards.laws import in_order
from transvae_dashboards.markup import Html, details, join, section, table, tag
from transvae_dashboards.sections.charts import figure
from transvae_dashboards.tables import FAMILY_NAMES, METRIC_NAMES, SIZE_NAMES, X_WORDS
from transvae_platform.fitting import FamilyFit, FitReport

LEAD = (
    "L(x) = E + A x^-alpha is fitted to the {metric} of each family's sizes (means over seeds). Intervals are "
    "{level:.0f} % profile intervals; the scatter of the sizes about the law, not the noise of the seeds, decides "
    "their width. E is the loss that no size removes. Where the data do not bound a number, the tables say so."
)

FOREST = (
    '{what}, with intervals: strong by the variance that the families share, thin by the family\'s own; "cannot tell" '
    "where the data do not decide. {runs}"
)


def laws(fits: Mapping[str, FitReport], study: str) -> Html:
    """The section with everything the fits say, over parameters and over training FLOPs."""
    first = next(iter(fits.values()))
    if not first.families:
        return section("Fitted laws", tag("p", "No trial has been queued yet.", class_="missing"), anchor="laws")
    lead = LEAD.format(metric=METRIC_NAMES.get(first.metric, first.metric), level=100 * first.level)
    over = [_over(report, study) for report in fits.values()]
    return section("Fitted laws", *over, _excluded(first), anchor="laws", lead=lead)


def _over(report: FitReport, study: str) -> Html:
    fits = in_order(report)
    runs = captions.of_fit(study, report)
    charts = [
        figure(panel, FOREST.format(what=panel.label.partition(".")[0], runs=runs)) for panel in forest_panels(report)
    ]
    panels = tag("div", *charts, class_="panels")
    return join(
        [
            tag("h3", f"Over {X_WORDS[report.x_name]}"), panels, _estimates(report, fits), _verdicts(fits),
            tag("h4", "Predicting the largest size from the others"), _hold_outs(fits, X_WORDS[report.x_name]),
            tag("h4", "Pairs of families"), _contrasts(report), _refusals(report, fits),
        ]
    )  # fmt: skip


def _estimates(report: FitReport, fits: Sequence[FamilyFit]) -> Html:
    body = [
        [
            family_mark(fit.family), str(fit.n_sizes), alpha_bar(fit).words, _own(fit), _floor(fit),
            formats.significant(fit.A), gain_bar(fit).words,
            formats.percent(fit.seed_sd, 2), _variance(fit),
        ]
        for fit in fits
    ]  # fmt: skip
    head = [
        "Family", "Sizes", "alpha", "alpha, own variance", "E", "A", "Loss removed, first to last", "Seed sd",
        "Scatter s, df",
    ]  # fmt: skip
    return table(head, body, label=f"Fitted laws over {X_WORDS[report.x_name]}")


def _own(fit: FamilyFit) -> str:
    interval = fit.alpha_interval_own
    if interval is None:
        return formats.NONE
    upper = f"{interval.upper:.2f}" if interval.bounded_above else "unbounded"
    return f"[{interval.lower if interval.bounded_below else 0:.2f}, {upper}]"


def _floor(fit: FamilyFit) -> str:
    if fit.E is None:
        return formats.NONE
    if fit.E_interval is None:
        return formats.significant(fit.E)
    if not fit.E_interval.bounded_below:
        return f"≤ {formats.significant(fit.E_interval.upper)}"
    low, high = formats.significant(fit.E_interval.lower), formats.significant(fit.E_interval.upper)
    return f"{formats.significant(fit.E)} [{low}, {high}]"


def _variance(fit: FamilyFit) -> str:
    if fit.variance is None:
        return formats.NONE
    return f"{formats.percent(fit.variance.s2**0.5, 2)}, {fit.variance.df} {fit.variance.kind}"


def _verdicts(fits: Sequence[FamilyFit]) -> Html:
    lines = [
        tag("li", family_mark(fit.family), " ", fit.verdict,
            tag("div", f"Trend: {fit.monotone.sentence}.", class_="muted") if fit.monotone else "",
            tag("div", f"Last step: {fit.saturation.sentence}.", class_="muted") if fit.saturation else "")
        for fit in fits
    ]  # fmt: skip
    return tag("ul", *lines, class_="verdicts")


def _hold_outs(fits: Sequence[FamilyFit], x: str) -> Html:
    body = []
    for fit in fits:
        test = fit.hold_out
        if test is None:
            continue
        interval = f"[{formats.number(test.interval.lower, 4)}, {formats.number(test.interval.upper, 4)}]"
        body.append(
            [
                family_mark(fit.family), SIZE_NAMES[test.size], formats.number(test.measured, 4),
                formats.number(test.predicted, 4), interval, "inside" if test.inside else "outside",
                formats.percent(test.error, 2, signed=True), formats.percent(test.power_law_error, 2, signed=True),
                formats.percent(test.last_value_error, 2, signed=True), "yes" if test.beats_baselines else "no",
            ]
        )  # fmt: skip
    if not body:
        return tag("p", "Not possible yet: it takes five finished sizes of a family.", class_="missing")
    head = [
        "Family", "Size", "Measured", "Predicted", "Interval", "Measured is", "Error of the law",
        "Error of a power law without E", "Error of the next smaller size's value", "Law beats both",
    ]  # fmt: skip
    return table(head, body, label=f"Back-test over {x} with naive baselines", text=(1, 5, 9))


def _contrasts(report: FitReport) -> Html:
    x = X_WORDS[report.x_name]
    body = [
        [
            f"{FAMILY_NAMES[contrast.first]} − {FAMILY_NAMES[contrast.second]}",
            contrast.question.replace(report.x_name, x),
            formats.number(contrast.difference, 3).replace("-", "−"),
            formats.NONE if contrast.interval is None
            else f"[{contrast.interval.lower:.3f}, {contrast.interval.upper:.3f}]".replace("-", "−"),
            formats.p_value(contrast.p_value).removeprefix("= "), formats.p_value(contrast.p_holm).removeprefix("= "),
            contrast.answer.partition(" (Holm")[0].replace(report.x_name, x),
        ]
        for contrast in (*report.gain_contrasts, *report.alpha_contrasts, *report.ratios)
    ]  # fmt: skip
    if not body:
        return tag("p", "One family only: nothing to compare.", class_="missing")
    head = ["Pair", "Question", "Difference", "Interval", "p", "p after Holm", "Answer"]
    return table(head, body, label=f"Pairwise comparisons over {x}", text=(1, 6))


def _refusals(report: FitReport, fits: Sequence[FamilyFit]) -> Html:
    sentences = [refusal.sentence for refusal in (*report.refusals, *(r for fit in fits for r in fit.refusals))]
    if not sentences:
        return Html("")
    return join([tag("h4", "What the fits decline to say"), tag("ul", *(tag("li", text) for text in sentences))])


def _excluded(report: FitReport) -> Html:
    title = "Trials that are not fitted"
    if not report.excluded:
        return join([tag("h3", title), tag("p", "None: every trial entered the fits.")])
    body = [
        [family_mark(entry.point.family), SIZE_NAMES[entry.point.size], str(entry.point.seed), entry.reason]
        for entry in report.excluded
    ]
    shown = table(["Family", "Size", "Seed", "Reason"], body, label=title, text=(1, 3))
    return join([tag("h3", title), shown if len(body) <= 8 else details(f"All {len(body)}", shown)])
