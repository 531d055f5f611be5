"""The pages of a study, drawn from its journals: one self-contained HTML report."""

from transvae_dashboards.page import write_report

__all__ = ["write_report"]
