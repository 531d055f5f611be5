"""The views of a study, drawn from its journals: a live dashboard, and one self-contained HTML report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transvae_dashboards.figure_files import write_figures as write_figures
    from transvae_dashboards.figure_files import write_tables as write_tables
    from transvae_dashboards.page import write_report as write_report

__all__ = ["write_figures", "write_report", "write_tables"]


def __getattr__(name: str) -> Any:
    # imported on first use: the terminal summary needs tables and fits, but no charts
    if name == "write_report":
        from transvae_dashboards.page import write_report

        return write_report
    if name == "write_figures":
        from transvae_dashboards.figure_files import write_figures

        return write_figures
    if name == "write_tables":
        from transvae_dashboards.figure_files import write_tables

        return write_tables
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
