"""The report: one self-contained HTML file. No scripts, no network, equal bytes for equal journals."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from transvae_dashboards.laws import fit_study
from transvae_dashboards.markup import Html, tag
from transvae_dashboards.sections.charts import losses, quality, scaling, variants
from transvae_dashboards.sections.laws import laws
from transvae_dashboards.sections.notices import notices
from transvae_dashboards.sections.opening import opening
from transvae_dashboards.sections.pictures import pictures
from transvae_dashboards.sections.provenance import provenance
from transvae_dashboards.sections.rates import rates
from transvae_dashboards.sections.trials import trials
from transvae_dashboards.tables import TrialRow, study_table
from transvae_platform.errors import UserError
from transvae_platform.fitting import FitReport
from transvae_platform.study.state import StudyState


def write_report(state: StudyState, path: Path) -> Path:
    """Draw a study's page as far as its journals go and write it to `path`; returns `path`.

    Raises:
        UserError: it cannot be written there.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no regular file - give --output the name of a file to write the page to")
    text = render(state)
    # a reader of the old page must never see half of the new one
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}) - the study's journals are whole: make room, then "
            f"`transvae study report {state.name}` draws it again, elsewhere with --output"
        ) from None
    return path


def render(state: StudyState) -> str:
    """The page as text."""
    rows, fits = study_table(state), fit_study(state)
    main = tag(
        "main",
        opening(state, rows, fits),
        notices(state, rows),
        trials(rows),
        *_answers(state, rows, fits),
        losses(state),
        pictures(state),
        provenance(state, rows, fits),
    )
    style = Html((files("transvae_dashboards") / "page.css").read_text(encoding="utf-8"))
    head = tag(
        "head",
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        tag("title", f"{state.name} – scaling study"),
        tag("style", style),
    )
    return f'<!doctype html>\n<html lang="en">{head}{tag("body", main)}</html>\n'


def _answers(state: StudyState, rows: Sequence[TrialRow], fits: Mapping[str, FitReport]) -> list[Html]:
    """What the study found: learning rates of a calibration, else its variants and scaling laws."""
    if state.spec.get("calibration"):
        return [rates(state)]
    compared = [variants(rows)] if any(row.variant != "base" for row in rows) else []
    return [*compared, *(scaling(report) for report in fits.values()), quality(rows), laws(fits)]
