"""Versions that the registry has of a checkpoint, as far as their files are still the registered ones.

Of a version whose files are damaged or gone the study's next submission makes a new one from the checkpoint
(`registry.py`). The old one stays, with a tag that says what is wrong, for a person may have put an alias on it;
nothing chooses it any more.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from transvae_platform.tracking.promotion import of_bytes

DAMAGED = "damaged"
"""The tag of such a version: what is wrong with it."""


def undamaged(versions: Iterable[ModelVersion]) -> list[ModelVersion]:
    """Those that were not found damaged."""
    return [version for version in versions if DAMAGED not in version.tags]


def known_version(
    client: MlflowClient, versions: Iterable[ModelVersion], wanted: Mapping[str, str]
) -> ModelVersion | None:
    """The first of a model's versions that has the wanted tags and whole files; damaged ones before it are marked."""
    for version in undamaged(versions):
        if wanted.items() <= version.tags.items():
            reason = _damage(client, version)
            if reason is None:
                return version
            client.set_model_version_tag(version.name, str(version.version), DAMAGED, reason)
    return None


def _damage(client: MlflowClient, version: ModelVersion) -> str | None:
    """What is wrong with a version's files; None if nothing is, or if a server does not give them."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            files = download_artifacts(version.source, dst_path=folder, tracking_uri=client.tracking_uri)
        except (MlflowException, OSError):
            return None
        return next(of_bytes(Path(files), version.tags), None)
