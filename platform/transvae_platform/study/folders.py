"""Where a home keeps what: `studies/<name>/` for journals, trials and reports, `data/<fingerprint>/` for data sets."""

from __future__ import annotations

import os
from pathlib import Path


def study_folder(home: Path, name: str) -> Path:
    """The folder of a study: journal, trials, report."""
    return home / "studies" / name


def store_of(home: Path) -> str:
    """The address of a home's own MLflow store, a SQLite file."""
    return f"sqlite:///{home.resolve() / 'mlflow.db'}"


def artifacts_of(home: Path) -> str:
    """The address below which a home's own store keeps the artifacts of each study."""
    return (home.resolve() / "mlartifacts").as_uri()


def load_call(uri: str, home: Path, tracking_uri: str) -> str:
    """The Python call that loads a registered model, from any working directory of this machine."""
    if tracking_uri == store_of(home):
        return f'load_model("{uri}", home="{home.resolve()}")'
    return f'load_model("{uri}", tracking_uri="{tracking_uri}")'


def user_cache() -> Path:
    """What can be lost at any time, whichever home it is for: `~/.cache/transvae`, or below `XDG_CACHE_HOME`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "transvae"
