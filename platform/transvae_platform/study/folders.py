"""Where a home keeps what: `studies/<name>/` for journals, trials and reports, `data/<fingerprint>/` for shards."""

from __future__ import annotations

from pathlib import Path


def study_folder(home: Path, name: str) -> Path:
    """The folder of a study: journal, trials, report."""
    return home / "studies" / name
