"""A study's report, and every chart and table of it as a file of its own, for papers and documents."""

from __future__ import annotations

from pathlib import Path

from transvae_dashboards.document import write_page
from transvae_dashboards.exhibits import collecting
from transvae_dashboards.files import figures, tables, write_files
from transvae_dashboards.page import ALONE, Beside, render
from transvae_platform.study.state import StudyState


def write_with_files(
    state: StudyState, page: Path, price: float | None = None, *, beside: Beside = ALONE,
    figures_in: Path | None = None, tables_in: Path | None = None,
) -> list[Path]:  # fmt: skip
    """Draw the report once and write it to `page`, its charts as SVG and PDF, its tables as CSV and LaTeX.

    Args:
        price: of an hour of one device.
        figures_in: folder of the charts, and of their captions; None: no charts.
        tables_in: folder of the tables; None: no tables.

    Returns:
        All files, the page first.

    Raises:
        UserError: they cannot be written there.
    """
    with collecting(pdf=figures_in is not None) as found:
        text = render(state, price, beside)
    written = [write_page(text, page)]
    if figures_in is not None:
        written += write_files(figures(found, state.name), figures_in, "--figures")
    if tables_in is not None:
        written += write_files(tables(found, state.name), tables_in, "--tables")
    return written
