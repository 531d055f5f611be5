"""The checkpoint registry: the best checkpoint of every finished trial as a version of an MLflow registered model.

A model is named `<study>-<family>-<size>[-<variant>]`, a version is one trial (one seed), and the alias `best` points
to the version with the highest PSNR of its name. Promotion is gated: finite metrics, checkpoint verified, lineage
known. The files are ours (config.json, model.safetensors, README.md): loading executes no code from the registry.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.artifacts import download_artifacts
from mlflow.entities import LoggedModelStatus
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from transvae_platform.errors import UserError
from transvae_platform.study.state import TrialState
from transvae_platform.training.checkpoint import open_checkpoints

if TYPE_CHECKING:
    from transvae.autoencoder import Autoencoder


def register_best(
    client: MlflowClient, experiment_id: str, run_id: str, trial: TrialState
) -> dict[str, str | int | float]:
    """Register a finished trial's best checkpoint, once; returns name, version, address, PSNR and weights' SHA-256.

    Raises:
        UserError: the trial may not be promoted, with the reason.
    """
    name = registered_name(trial)
    for version in client.search_model_versions(f"name='{name}'"):
        if version.tags.get("trial_id") == trial.trial.id:
            _promote(client, name, version.version, float(version.tags["val.psnr"]))
            return _described(name, version.version, version.tags)
    with _promotable(trial) as (folder, metrics):
        return _create_version(client, experiment_id, run_id, trial, folder, metrics)


def _create_version(
    client: MlflowClient, experiment_id: str, run_id: str, trial: TrialState, folder: Path, metrics: dict[str, float]
) -> dict[str, str | int | float]:
    name = registered_name(trial)
    sha256 = _sha256(folder / "model.safetensors")
    tags = {
        "trial_id": trial.trial.id,
        "study": trial.trial.study,
        "model": trial.trial.model,
        "data_fingerprint": trial.trial.data_fingerprint,
        "weights_sha256": sha256,
        "code": str(trial.started[-1]["lineage"]["code"]),
        **{key: f"{value:.6g}" for key, value in metrics.items()},
    }
    tags = {key.replace("/", "."): value for key, value in tags.items()}
    logged = client.create_logged_model(
        experiment_id,
        name=name,
        source_run_id=run_id,
        tags=tags,
        params={key: f"{value:.0f}" for key, value in trial.cost.items()},
        model_type="vae",
    )
    client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    try:
        client.create_registered_model(name, tags={"study": trial.trial.study, "model": trial.trial.model})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    created = client.create_model_version(
        name, source=f"models:/{logged.model_id}", run_id=run_id, tags=tags, model_id=logged.model_id
    )
    _promote(client, name, created.version, metrics["val/psnr"])
    return _described(name, created.version, tags)


def registered_name(trial: TrialState) -> str:
    """`<study>-<family>-<size>[-<variant>]`: what `load_model` takes after `models:/`."""
    return f"{trial.trial.study}-{trial.trial.label}"


def load_model(uri: str, *, home: str | Path = "runs", tracking_uri: str | None = None) -> Autoencoder:
    """A model from the registry, in eval mode, its weights verified against the version's SHA-256.

    Args:
        uri: `models:/quickstart-transvae-G@best`, or `models:/NAME/VERSION`.
        home: the folder studies were run in; it holds the default MLflow store and a cache of downloaded models.
        tracking_uri: the MLflow server; default `MLFLOW_TRACKING_URI`, else the store in `home`.

    Raises:
        UserError: there is no such model, or its weights are damaged.
        UnreachableError: the server does not answer.
    """
    from transvae.autoencoder import Autoencoder
    from transvae_platform.tracking.runs import connect, existing_tracking_uri

    home = Path(home)
    client = connect(tracking_uri or existing_tracking_uri(home), home)
    name, separator, selector = uri.removeprefix("models:/").replace("@", "/@").partition("/")
    try:
        if selector.startswith("@"):
            version = client.get_model_version_by_alias(name, selector[1:])
        elif separator and selector != "latest":
            version = client.get_model_version(name, selector)
        else:
            version = max(client.search_model_versions(f"name='{name}'"), key=lambda known: int(known.version))
    except (MlflowException, ValueError) as error:
        known = ", ".join(model.name for model in _all_models(client)) or "none yet"
        raise UserError(f"{uri}: no such model in the registry ({error}) - registered models: {known}") from None
    cache = home / "models" / version.tags["weights_sha256"]
    if not cache.exists():
        cache.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".loading-", dir=cache.parent))
        download_artifacts(version.source, dst_path=str(folder), tracking_uri=client.tracking_uri)
        folder.rename(cache)  # complete from the moment it is seen
    weights = cache / "model.safetensors"
    if not weights.is_file() or _sha256(weights) != version.tags["weights_sha256"]:
        raise UserError(f"{uri}: the weights in {cache} differ from the registered SHA-256 - delete that folder")
    return Autoencoder.from_pretrained(cache).eval()


def registered_models(client: MlflowClient) -> list[dict[str, str]]:
    """Every registered model's `best` version: uri, version, PSNR, study, model and trial, by name."""
    rows = []
    for model in _all_models(client):
        if "best" not in model.aliases:  # a model of something else that uses the same server
            continue
        version = client.get_model_version_by_alias(model.name, "best")
        if "weights_sha256" not in version.tags:
            continue
        rows.append(
            {
                "uri": f"models:/{model.name}@best",
                "version": str(version.version),
                "psnr": version.tags["val.psnr"],
                "model": version.tags["model"],
                "study": version.tags["study"],
                "trial": version.tags["trial_id"],
                "weights_sha256": version.tags["weights_sha256"],
            }
        )
    return sorted(rows, key=lambda row: row["uri"])


def _all_models(client: MlflowClient) -> Iterator[RegisteredModel]:
    token = None
    while True:
        page = client.search_registered_models(page_token=token)
        yield from page
        if not (token := page.token):
            return


@contextmanager
def _promotable(trial: TrialState) -> Iterator[tuple[Path, dict[str, float]]]:
    if trial.state != "finished":
        raise UserError(f"{trial.trial.id}: only finished trials are registered, this one is {trial.state}")
    best = trial.checkpoints[max(trial.checkpoints)]["best_step"]
    metrics = trial.validation[best]["metrics"]
    if not all(value is not None and math.isfinite(value) for value in metrics.values()):
        raise UserError(f"{trial.trial.id}: its metrics are not finite, it is not registered: {metrics}")
    with open_checkpoints(trial.trial, trial.folder).verified(best) as folder:
        yield folder / "ema", metrics


def _promote(client: MlflowClient, name: str, version: str | int, psnr: float) -> None:
    """Let the alias `best` point to this version if it has the highest PSNR."""
    try:
        best = float(client.get_model_version_by_alias(name, "best").tags["val.psnr"])
    except MlflowException:  # no version has the alias yet
        best = -math.inf
    if psnr > best:
        client.set_registered_model_alias(name, "best", str(version))


def _described(name: str, version: str | int, tags: dict[str, str]) -> dict[str, str | int | float]:
    return {
        "name": name,
        "version": int(version),
        "uri": f"models:/{name}/{version}",
        "psnr": float(tags["val.psnr"]),
        "sha256": tags["weights_sha256"],
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
