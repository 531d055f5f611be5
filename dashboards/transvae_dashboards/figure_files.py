"""Every chart and every table of a study's report as a file of its own, for papers and documents."""

from __future__ import annotations

from pathlib import Path

from transvae_dashboards.exhibits import collecting
from transvae_dashboards.files import figures, tables, write_files
from transvae_dashboards.page import render
from transvae_platform.study.state import StudyState


def write_figures(state: StudyState, folder: Path, *, pdf: bool = False) -> list[Path]:
    """Write every chart that the study's journals give so far as SVG, and as PDF if wanted; returns the files.

    Raises:
        UserError: they cannot be written there.
    """
    with collecting(pdf=pdf) as found:
        render(state)
    return write_files(figures(found, state.name), folder, "--figures")


def write_tables(state: StudyState, folder: Path, price: float | None = None) -> list[Path]:
    """Write every table of the report as CSV and LaTeX; returns the files.

    Raises:
        UserError: they cannot be written there.
    """
    with collecting() as found:
        render(state, price)
    return write_files(tables(found, state.name), folder, "--tables")
