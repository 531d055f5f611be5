"""What the registry holds of one study, for people who look: versions, aliases, evaluation, lineage, promotions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transvae_platform.errors import UserError
from transvae_platform.tracking.registry import described, registered_of
from transvae_platform.tracking.server import answering, connect, existing_tracking_uri


def registered_versions(study: str, home: Path, uri: str | None = None) -> list[dict[str, Any]]:
    """Every version that a study registered, as `registry.described` tells it, by name and version.

    Args:
        uri: of the server; by default `MLFLOW_TRACKING_URI`, else the store of the home.

    Raises:
        UserError: the home has no store, or the server does not answer.
    """
    client = connect(uri or existing_tracking_uri(home), home)
    with answering(client):
        return [described(client, version) for version in registered_of(client, study)]


def try_versions(study: str, home: Path, uri: str | None = None) -> list[dict[str, Any]] | str:
    """The same, or in a sentence why there is none."""
    try:
        return registered_versions(study, home, uri)
    except UserError as error:
        return str(error)
