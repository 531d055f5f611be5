"""Every chart of a study's page as an SVG file of its own, for papers and documents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from transvae_dashboards.figures.canvas import Panel
from transvae_dashboards.figures.forest import forest_panels
from transvae_dashboards.figures.generators import generator_panels
from transvae_dashboards.figures.learning_rates import rate_panels
from transvae_dashboards.figures.losses import loss_panels
from transvae_dashboards.figures.quality import quality_panel
from transvae_dashboards.figures.scaling import scaling_panels
from transvae_dashboards.figures.variants import variants_panel
from transvae_dashboards.laws import fit_study
from transvae_dashboards.tables import METRIC_NAMES, study_table
from transvae_platform.errors import UserError
from transvae_platform.study.calibration import outcomes
from transvae_platform.study.state import StudyState

NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
STYLE = "font-family: DejaVu Sans, Helvetica, Arial, sans-serif; background: #ffffff"


def write_figures(state: StudyState, folder: Path) -> list[Path]:
    """Write every chart that the study's journals give so far; returns the files.

    Raises:
        UserError: they cannot be written there.
    """
    try:
        return _write(state, folder)
    except OSError as error:
        why = f"the figures cannot be written ({error.strerror or error})"
        raise UserError(f"{folder}: {why} - make room, or name another folder with --figures") from None


def _write(state: StudyState, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for panel in panels(state):
        path = folder / f"{state.name}-{panel.name}.svg"
        svg = panel.svg.replace("<svg ", f'<svg {NAMESPACES} style="{STYLE}" ', 1)
        path.write_text(svg.replace("var(--sans, sans-serif)", "sans-serif") + "\n", encoding="utf-8")
        written.append(path)
    return written


def panels(state: StudyState) -> Iterator[Panel]:
    """The charts in the order of the page."""
    rows = study_table(state)
    if state.spec.get("calibration"):
        metric = state.spec["fits"]["metric"]
        yield from rate_panels(outcomes(state), METRIC_NAMES.get(metric, metric))
    else:
        if any(row.variant != "base" for row in rows) and (panel := variants_panel(rows)):
            yield panel
        fits = fit_study(state)
        for report in fits.values():
            yield from scaling_panels(report)
        if panel := quality_panel(rows):
            yield panel
        for report in fits.values():
            yield from forest_panels(report)
    yield from generator_panels(state)
    yield from loss_panels(state)
