"""Where the documents of fits go: files beside the study or in a folder, and MLflow."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transvae_platform.errors import SpecError, UserError
from transvae_platform.lineage import code

if TYPE_CHECKING:
    from transvae_platform.study.state import StudyState

AXES = ("parameters", "training_flops")
"""Over which a study's laws are fitted when it ends."""


def stamped(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the version and commit of the code that made it."""
    return {**document, "versions": {**document["versions"], "transvae_platform": code().name}}


def write_document(document: dict[str, Any], folder: Path, stem: str) -> Path:
    """One file per request and table, by form, axis, metric, group and a hash; the same fit again replaces it.

    Raises:
        UserError: it cannot be written.
    """
    request = document["request"]
    axis = [request["columns"]["N"]] if document["kind"] == "families" else []
    asked = json.dumps([request, document["group"], document["source"]["path"]], sort_keys=True)
    digest = hashlib.sha256(asked.encode()).hexdigest()[:8]
    parts = [stem, request["form"], *axis, request["loss"], *document["group"].values(), digest]
    path = folder / ("-".join(re.sub(r"[^A-Za-z0-9.]+", "_", part).strip("_") for part in parts) + ".json")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None
    return path


def log_documents(study: str, documents: Sequence[dict[str, Any]], home: Path, uri: str) -> list[str]:
    """The ids of the fit runs in the study's experiment.

    Raises:
        SpecError: the server does not know the study.
        UnreachableError: it does not answer.
    """
    from transvae_platform.tracking.fits import log_fit
    from transvae_platform.tracking.server import connect

    client = connect(uri, home)
    try:
        return [log_fit(client, study, document) for document in documents]
    except KeyError:
        raise SpecError(
            f"MLflow holds no experiment {study!r} - submit the study there first, or fit with --no-log"
        ) from None


def keep_fits(state: StudyState, home: Path, uri: str) -> None:
    """The laws of a study that has ended, as files and in MLflow; where the table cannot be fitted, the reason.

    Raises:
        UserError: a file cannot be written; MLflow has them all the same.
        UnreachableError: the tracking server does not answer.
    """
    from transvae_dashboards.laws import fits_of
    from transvae_dashboards.runs import study_runs
    from transvae_platform.fitting import Request, answer

    choice, table = fits_of(state), study_runs(state)
    if table is None:
        return
    try:
        documents = [
            stamped(document)
            for axis in AXES
            for document in answer(
                table,
                Request(columns={"N": axis}, loss=choice.metric, where="variant == 'base'", level=choice.level,
                        margin=choice.margin),
            )
        ]  # fmt: skip
    except (ValueError, ArithmeticError) as error:  # TableError, or numbers that no solver takes: the study is done
        print(f"fits:    none were kept: {error}")
        return
    try:
        for document in documents:
            write_document(document, state.folder / "fits", state.name)
    finally:
        log_documents(state.name, documents, home, uri)
