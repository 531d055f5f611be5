"""The sections that are mostly charts: scaling over parameters and FLOPs, quality, variants; each with its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from transvae_dashboards import captions, formats
from transvae_dashboards.exhibits import show_panel
from transvae_dashboards.figures.canvas import Panel
from transvae_dashboards.figures.quality import quality_panel
from transvae_dashboards.figures.scaling import scaling_panels
from transvae_dashboards.figures.variants import variants_panel
from transvae_dashboards.icons import family_mark
from transvae_dashboards.laws import XName, in_order
from transvae_dashboards.markup import Html, section, table, tag
from transvae_dashboards.tables import METRIC_NAMES, SIZE_NAMES, SIZES, X_WORDS, TrialRow, mean
from transvae_platform.fitting import FitReport

FLOPS = "Training FLOPs are 2 × multiply-adds, forward + backward, encoder + decoder; loss networks are excluded."
READING = (
    "Small markers: one trial each. Large markers: the mean of a size. Solid line: the fitted law within the trained "
    "sizes, dotted where the data do not bound its exponent; dashed: beyond them. Shaded: the {level:.0f} % interval "
    "of the law, where there is one. Hollow marker: what the smaller sizes predict for the largest, with its interval."
)
TITLES = {"parameters": "Scaling with parameters", "training_flops": "Scaling with training compute"}


def scaling(report: FitReport, study: str) -> Html:
    """The metric over one x: joint chart and numbers, then a chart per family."""
    panels, anchor = scaling_panels(report), report.x_name.replace("_", "-")
    lead = FLOPS + " " if report.x_name == "training_flops" else ""
    lead += READING.format(level=100 * report.level)
    if not panels:
        return section(TITLES[report.x_name], _missing("a finished trial"), anchor=anchor)
    what = f"{METRIC_NAMES.get(report.metric, report.metric)} at the last validation over {X_WORDS[report.x_name]}"
    joint = figure(panels[0], f"Mean {what}, with each family's law. {captions.of_fit(study, report)}")
    each = [
        figure(panel, f"{what[:1].upper()}{what[1:]}, with law and {100 * report.level:.0f} % interval. "
                      + captions.of_fit(study, report, [panel.of]))
        for panel in panels[1:]
    ]  # fmt: skip
    top = tag("div", joint, _size_means(report), class_="pair")
    rest = tag("div", *each, class_="panels")
    return section(TITLES[report.x_name], top, rest, anchor=anchor, lead=lead)


def quality(rows: Sequence[TrialRow], study: str, x_name: XName = "parameters") -> Html:
    """PSNR against parameters or training FLOPs."""
    panel, title = quality_panel(rows, x_name), f"Reconstruction quality over {X_WORDS[x_name]}"
    if panel is None:
        return section(title, _missing("a finished trial"), anchor="quality")
    sizes = [size for size in SIZES if any(row.size == size for row in rows)]
    body = [
        [family_mark(family), *(formats.number(_mean_psnr(rows, family, size)) for size in sizes)]
        for family in dict.fromkeys(row.family for row in rows)
    ]
    numbers = table(["PSNR, dB", *(SIZE_NAMES[size] for size in sizes)], body, label="PSNR by family and size")
    lead = (
        "PSNR of held-out images: every finished trial a small marker, the means of the sizes joined. PSNR is not a "
        "loss, so no law is fitted to it."
    )
    shown = [row for row in rows if row.finished and row.variant == "base" and row.psnr is not None]
    caption = f"PSNR of held-out images at the last validation over {X_WORDS[x_name]}. {captions.of_rows(study, shown)}"
    return section(title, tag("div", figure(panel, caption), numbers, class_="pair"), anchor="quality", lead=lead)


def variants(rows: Sequence[TrialRow], study: str) -> Html:
    """PSNR of every model and variant, finished ones only."""
    panel, title = variants_panel(rows), "Variants"
    if panel is None:
        return section(title, _missing("two finished models"), anchor="variants")
    lead = (
        "PSNR of held-out images at the end of training: a small marker per seed, a large one for their mean. "
        "Differences below what seeds differ by mean nothing; with one seed nobody knows how much that is."
    )
    shown = [row for row in rows if row.finished and row.psnr is not None]
    caption = f"PSNR of held-out images at the end of training, by variant. {captions.of_rows(study, shown)}"
    return section(title, figure(panel, caption), anchor="variants", lead=lead)


def figure(panel: Panel, caption: str) -> Html:
    """A chart in its frame, with what it shows and from which runs (`captions.py`)."""
    show_panel(replace(panel, caption=caption))
    return tag("figure", panel.svg, tag("figcaption", caption), id=f"chart-{panel.name}", class_="plot")


def _size_means(report: FitReport) -> Html:
    name = METRIC_NAMES.get(report.metric, report.metric)
    body = [
        [
            Html(f"{family_mark(fit.family)} <b>{SIZE_NAMES[size.size]}</b>"), formats.scaled(
                size.x, formats.COUNT_UNITS if report.x_name == "parameters" else formats.UNITS
            ),
            formats.number(size.mean, 4), str(len(size.values)),
            formats.percent(fit.residuals.get(size.size), 2, signed=True),
        ]
        for fit in in_order(report) for size in fit.sizes
    ]  # fmt: skip
    x = "Parameters" if report.x_name == "parameters" else "Training FLOPs"
    title = f"{name} by family and size over {x.lower()}"
    return table(["Size", x, f"{name}, mean", "Seeds", "Off the law"], body, label=title, kind="dense")


def _mean_psnr(rows: Sequence[TrialRow], family: str, size: str) -> float | None:
    return mean(r.psnr for r in rows if (r.family, r.size, r.variant) == (family, size, "base") and r.finished)


def _missing(what: str) -> Html:
    return tag("p", f"Nothing to draw yet: this needs {what}.", class_="missing")
