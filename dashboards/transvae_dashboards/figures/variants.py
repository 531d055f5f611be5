"""PSNR of every variant: one row per model, a small marker per seed, a large one for their mean."""

from __future__ import annotations

from collections.abc import Sequence

from transvae_dashboards.figures.canvas import WIDTH, Panel, canvas
from transvae_dashboards.style import COLOURS, INK, MARKERS, PAPER
from transvae_dashboards.tables import FAMILY_NAMES, SIZE_NAMES, TrialRow, mean

ROW = 0.3
"""Height of a row in inches."""


def variants_panel(rows: Sequence[TrialRow]) -> Panel | None:
    """None before two models have finished."""
    shown = [row for row in rows if row.finished and row.psnr is not None]
    models = list(dict.fromkeys((row.family, row.size, row.variant) for row in shown))
    if len(models) < 2:
        return None
    with canvas("variants", "PSNR of held-out images by model", WIDTH, 0.8 + ROW * len(models)) as drawing:
        axes = drawing.axes
        for place, (family, size, variant) in enumerate(models):
            cell = [row.psnr for row in shown if (row.family, row.size, row.variant) == (family, size, variant)]
            colour, marker = COLOURS[family], MARKERS[family]
            if len(cell) > 1:
                axes.plot(cell, [place] * len(cell), marker=marker, color=colour, ms=3.5, alpha=0.5, mew=0, ls="none")
            value = mean(cell)
            axes.plot([value], [place], marker=marker, color=colour, ms=7, mec=PAPER, mew=0.6)
            axes.annotate(f"{value:.2f}", (value, place), xytext=(8, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(models)), [_name(*model) for model in models], color=INK)
        axes.set_ylim(len(models) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.15)
        axes.set_xlabel("PSNR, dB")
    return drawing.panel[0]


def _name(family: str, size: str, variant: str) -> str:
    return f"{FAMILY_NAMES[family]}-{SIZE_NAMES[size]}" + ("" if variant == "base" else f" {variant}")
