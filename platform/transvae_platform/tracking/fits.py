"""Fits in MLflow: one run per fitted document, in the experiment of its study, linked to the runs that it was made of.

Protocol
1. A fit run has the tags `kind` = fit, `study`, `form`, `metric` and `document_sha256`; the same document makes no
   second run, so fitting again changes nothing.
2. The tag `source_runs` names the trials' MLflow runs, `missing_runs` those trials that MLflow does not hold (yet);
   what one tag cannot hold goes on in `source_runs_2` and so on.
3. The document is the artifact `fit.json`; its numbers are metrics, so that fits of several days can be compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from transvae_platform.tracking.server import answering

TAG_LENGTH = 5000  # of a tag's value, MLflow's limit


def log_fit(client: MlflowClient, study: str, document: Mapping[str, Any]) -> str:
    """The id of the run that holds this document, made if there is none.

    Raises:
        UnreachableError: the server does not answer.
        KeyError: the study has no experiment yet; it is made by the study's first submission.
    """
    with answering(client):
        experiment = client.get_experiment_by_name(study)
        if experiment is None:
            raise KeyError(study)
        digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
        same = f"tags.kind = 'fit' and tags.document_sha256 = '{digest}'"
        found = client.search_runs([experiment.experiment_id], same)
        if found:
            return str(found[0].info.run_id)
        request = document["request"]
        sources, missing = _sources(client, experiment.experiment_id, document["source"]["runs"] or [])
        tags = {
            "kind": "fit", "study": study, "form": request["form"], "metric": request["loss"],
            "document_sha256": digest, **tagged("source_runs", sources), **tagged("missing_runs", missing),
        }  # fmt: skip
        run = client.create_run(experiment.experiment_id, run_name=f"fit {request['form']}", tags=tags)
        run_id = str(run.info.run_id)
        params = [Param(key, str(value)) for key, value in request.items() if value not in (None, [], {}, "")]
        metrics = [Metric(key, value, run.info.start_time, 0) for key, value in numbers(document["result"])]
        client.log_batch(run_id, metrics=metrics, params=params)
        client.log_dict(run_id, dict(document), "fit.json")
        client.set_terminated(run_id, "FINISHED")
        return run_id


def tagged(name: str, ids: list[str]) -> dict[str, str]:
    """All ids, by commas, in as many tags as they need; one empty tag for none."""
    parts = [""]
    for one in ids:
        if len(parts[-1]) + len(one) + 1 > TAG_LENGTH:
            parts.append("")
        parts[-1] += f",{one}" if parts[-1] else one
    return {f"{name}_{k}" if k > 1 else name: part for k, part in enumerate(parts, start=1)}


def numbers(result: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The estimates of a document by metric names that MLflow takes."""
    for fit in result.get("families", ()):
        for name in ("alpha", "E"):
            if fit[name] is not None:
                yield f"{fit['family']}.{name}", fit[name]
        if fit["gain"] is not None:
            yield f"{fit['family']}.gain", fit["gain"]["total"]
    for name, value in (result.get("parameters") or {}).items():
        yield f"parameter.{name}", value
    proof = result.get("proof") or {}
    for name in ("objective", "gradient_max", "condition"):
        if proof.get(name) is not None:
            yield name, proof[name]


def _sources(client: MlflowClient, experiment: str, trials: list[str]) -> tuple[list[str], list[str]]:
    """MLflow's runs of these trials, and the trials that have none."""
    runs = client.search_runs([experiment], "tags.kind = 'trial'", max_results=50_000)
    known = {run.data.tags["trial_id"]: str(run.info.run_id) for run in runs}
    return [known[t] for t in trials if t in known], [t for t in trials if t not in known]
