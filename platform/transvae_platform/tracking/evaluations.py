"""Evaluations in MLflow: a run below the run that trained the model, as the trial's own run must equal its journal.

A run belongs to one evaluation: its tag `evaluation` is the key. Told again it is found, and nothing is written twice.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from transvae_platform.evaluation.latent_space.records import LatentRecord
from transvae_platform.evaluation.records import RECORD, Record
from transvae_platform.tracking.registry import find_version
from transvae_platform.tracking.server import answering, connect, existing_tracking_uri

DONE = "FINISHED"


def log_evaluation(uri: str, record: Record | LatentRecord, home: Path, tracking_uri: str | None = None) -> str:
    """Write a record to the MLflow run of a registered model, once; returns the id of the evaluation's run.

    Raises:
        UserError: there is no such model.
        UnreachableError: the server does not answer.
    """
    client = connect(tracking_uri or existing_tracking_uri(home), home)
    with answering(client):
        trained = client.get_run(find_version(client, uri).run_id)
        experiment = trained.info.experiment_id
        found = client.search_runs([experiment], f"tags.evaluation = '{record.key}'")
        for run in found:
            if run.info.status == DONE and run.data.tags.get(MLFLOW_PARENT_RUN_ID) == trained.info.run_id:
                return str(run.info.run_id)
        told = _reconstruction(record) if isinstance(record, Record) else _latents(record)
        return _write(client, experiment, trained.info.run_id, record, told)


class _Told(NamedTuple):
    name: str
    metrics: Mapping[str, float | None]
    params: Mapping[str, object]
    warnings: Sequence[str]


def _reconstruction(record: Record) -> _Told:
    params = {
        "n": record.n, "protocol": record.protocol["name"], "protocol_identity": record.protocol["identity"],
        "data": record.data["fingerprint"], "split": record.data["split"], "resolution": record.data["resolution"],
        "weights_sha256": record.model["weights_sha256"],
    }  # fmt: skip
    name = f"{record.protocol['name']} {record.data['name']} {record.data['resolution']}"
    return _Told(name, record.metrics, params, record.warnings)


def _latents(record: LatentRecord) -> _Told:
    result, latents = record.result, record.latents
    params = {key: latents[key] for key in ("fingerprint", "content", "resolution", "images")}
    if record.kind == "probe":
        metrics = {"probe_accuracy": result["accuracy"]}
        params |= {f"probe.{key}": value for key, value in result["protocol"].items()}
    elif record.kind == "manifold":
        metrics = {key: float(result[key]) for key in ("effective_rank", "participation", "directions")}
        for name in ("ratio", "inside"):
            metrics |= {f"{name}_noise_{level}": value for level, value in result[name].items()}
        params |= {key: result[key] for key in ("n", "references", "channels")} | result["settings"]
    else:
        metrics = result["mean"] | {f"{name}_spread": value for name, value in result["spread"].items()}
        params |= {"n": result["n"], "runs": result["runs"], **result["settings"]}
    return _Told(f"{record.kind} {latents['resolution']}", metrics, params, ())


def _write(client: MlflowClient, experiment: str, parent: str, record: Record | LatentRecord, told: _Told) -> str:
    tags = {"kind": "evaluation", "evaluation": record.key, MLFLOW_PARENT_RUN_ID: parent}
    run = client.create_run(experiment, run_name=told.name, tags=tags).info.run_id
    at = {f"eval/{metric}": value for metric, value in told.metrics.items() if value is not None}
    metrics = [Metric(key, value, 0, 0) for key, value in at.items() if math.isfinite(value)]
    warnings = [RunTag(f"warning.{number}", text) for number, text in enumerate(told.warnings)]
    client.log_batch(run, metrics, [Param(key, str(value)) for key, value in told.params.items()], warnings)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / RECORD
        path.write_text(json.dumps(asdict(record), indent=1))
        client.log_artifact(run, str(path))
    client.set_terminated(run, DONE)
    return str(run)
