"""The pages of evaluations, of a whole home or of one study: table 1, table 2, extrapolation (figure 3a)."""

from __future__ import annotations

from pathlib import Path

from transvae_dashboards.extrapolation import write_extrapolation
from transvae_dashboards.table1 import write_table1
from transvae_dashboards.table2 import write_table2
from transvae_platform.evaluation.latent_space.records import all_latent_records
from transvae_platform.evaluation.records import all_records
from transvae_platform.study.state import StudyState, studies_in


def write_evaluations(home: Path, folder: Path, study: StudyState | None = None) -> dict[str, Path]:
    """Write the three pages, of one study or of everything in the home, into a folder; returns them by title."""
    keys, studies = (study.measured, [study]) if study else (None, list(studies_in(home)))
    records = [record for record in all_records(home) if keys is None or record.key in keys]
    latents = [record for record in all_latent_records(home) if keys is None or record.key in keys]
    return {
        "table 1": write_table1(records, folder / "table1.html"),
        "table 2": write_table2(latents, studies, folder / "table2.html"),
        "extrapolation": write_extrapolation(records, home, folder / "extrapolation.html"),
    }
