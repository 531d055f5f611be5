"""The report: one self-contained HTML file. No scripts, no network, equal bytes for equal journals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from transvae_dashboards.document import document, write_page
from transvae_dashboards.laws import fit_study
from transvae_dashboards.markup import Html
from transvae_dashboards.sections.charts import losses, quality, scaling, variants
from transvae_dashboards.sections.generators import generators
from transvae_dashboards.sections.laws import laws
from transvae_dashboards.sections.notices import notices
from transvae_dashboards.sections.opening import opening
from transvae_dashboards.sections.pictures import pictures
from transvae_dashboards.sections.provenance import provenance
from transvae_dashboards.sections.rates import rates
from transvae_dashboards.sections.trials import trials
from transvae_dashboards.tables import TrialRow, study_table
from transvae_platform.fitting import FitReport
from transvae_platform.study.state import StudyState


def write_report(state: StudyState, path: Path) -> Path:
    """Draw a study's page as far as its journals go and write it to `path`; returns `path`.

    Raises:
        UserError: it cannot be written there.
    """
    return write_page(render(state), path)


def render(state: StudyState) -> str:
    """The page as text."""
    rows, fits = study_table(state), fit_study(state)
    return document(
        f"{state.name} – scaling study",
        opening(state, rows, fits),
        notices(state, rows),
        trials(rows),
        *_answers(state, rows, fits),
        *([generators(state)] if state.generators else []),
        losses(state),
        pictures(state),
        provenance(state, rows, fits),
    )


def _answers(state: StudyState, rows: Sequence[TrialRow], fits: Mapping[str, FitReport]) -> list[Html]:
    """What the study found: learning rates of a calibration, else its variants and scaling laws."""
    if state.spec.get("calibration"):
        return [rates(state)]
    compared = [variants(rows)] if any(row.variant != "base" for row in rows) else []
    return [*compared, *(scaling(report) for report in fits.values()), quality(rows), laws(fits)]
