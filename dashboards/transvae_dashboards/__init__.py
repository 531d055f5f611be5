"""The views of a study, drawn from its journals: a live dashboard, and one self-contained HTML report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transvae_dashboards.figure_files import write_with_files as write_with_files
    from transvae_dashboards.page import write_report as write_report

__all__ = ["write_report", "write_with_files"]


def __getattr__(name: str) -> Any:
    # imported on first use: the terminal summary needs tables and fits, but no charts
    if name == "write_report":
        from transvae_dashboards.page import write_report

        return write_report
    if name == "write_with_files":
        from transvae_dashboards.figure_files import write_with_files

        return write_with_files
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
