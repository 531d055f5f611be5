"""MLflow is told what the journals say: one experiment per study, one run per trial, found again by a tag.

Protocol
1. The journal is the truth. A tracker reads its records and sends them in batches; nothing else writes to MLflow.
2. A run belongs to the trial whose id stands in its tag `trial_id`. A submission that continues a study continues it.
3. Per trial, a record is sent once: on connecting, the largest step already in the run's history is read, and records
   up to it are passed over (repeated steps of a resumed trial have equal values).
4. A server that does not answer stops nothing: what was not sent stays queued and is tried again, in this submission
   or the next.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from transvae_platform.errors import UnreachableError
from transvae_platform.study.journal import Record
from transvae_platform.study.state import StudyState, TrialState

SEND_EVERY_SECONDS = 10.0  # one batch of many steps per call is 25 times faster than one call per step (measured)
METRICS_PER_CALL = 1000  # the server's limit for one batch
MLFLOW_STATUS = {"queued": "SCHEDULED", "running": "RUNNING", "finished": "FINISHED", "failed": "FAILED"}


def default_tracking_uri(home: Path) -> str:
    """`MLFLOW_TRACKING_URI` if set, else a SQLite file in the home folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home.resolve() / 'mlflow.db'}"


def connect(uri: str, home: Path) -> MlflowClient:
    """A client whose server answers.

    Raises:
        UnreachableError: it does not.
    """
    if uri.startswith("file:") or "://" not in uri:
        raise UnreachableError(
            f"tracking: {uri!r} is no MLflow server - use http(s)://host:port, postgresql://... or sqlite:///file.db"
        )
    # retries with growing pauses would hang for minutes on a wrong address; the outbox does its own retrying
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    mlflow.set_tracking_uri(uri)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    try:
        client.search_experiments(max_results=1)
    except (MlflowException, OSError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise UnreachableError(
            f"tracking: the MLflow server at {uri} does not answer ({reason}) - start it, or correct "
            "MLFLOW_TRACKING_URI / --tracking-uri"
        ) from None
    return client


class Tracker:
    """Sends one study's journal records to MLflow; see the protocol above."""

    def __init__(self, client: MlflowClient, state: StudyState, home: Path) -> None:
        self._client, self._state = client, state
        experiment = client.get_experiment_by_name(state.name)
        if experiment is None:
            artifacts = (home.resolve() / "mlartifacts").as_uri() + f"/{state.name}"
            local = str(client.tracking_uri).startswith("sqlite:")
            self.experiment_id = client.create_experiment(state.name, artifact_location=artifacts if local else None)
        else:
            self.experiment_id = experiment.experiment_id
        self.study_run = self._find_or_create({"kind": "study", "study": state.name}, f"study {state.name}", {})
        self._runs: dict[str, str] = {}
        self._sent_step: dict[str, int] = {}
        self._outbox: dict[str, list[Record]] = defaultdict(list)
        self._next_send = 0.0
        self.problem: str | None = None
        """Why the last sending failed, or None: shown while a study runs."""

    def take(self, news: list[tuple[TrialState, Record]]) -> None:
        """Queue new journal records."""
        for trial, record in news:
            self._outbox[trial.trial.id].append(record)

    def send(self, *, now: bool = False) -> bool:
        """Send what is queued, at most every few seconds unless `now`; whether nothing is left."""
        if not now and time.monotonic() < self._next_send:
            return not self._outbox
        self._next_send = time.monotonic() + SEND_EVERY_SECONDS
        try:
            for trial_id in list(self._outbox):
                self._send_trial(self._state.trials[trial_id], self._outbox[trial_id])
                del self._outbox[trial_id]
            self.problem = None
        except (MlflowException, OSError) as error:
            self.problem = f"MLflow does not answer, {sum(map(len, self._outbox.values()))} records wait: {error}"
        return not self._outbox

    def run_id(self, trial: TrialState) -> str:
        """The MLflow run of a trial, made if it does not exist."""
        identity = trial.trial.id
        if identity not in self._runs:
            tags = {
                "study": trial.trial.study,
                "family": trial.trial.family,
                "size": trial.trial.size,
                "variant": trial.trial.variant,
                "seed": str(trial.trial.seed),
                MLFLOW_PARENT_RUN_ID: self.study_run,
            }
            run_id = self._find_or_create({"kind": "trial", "trial_id": identity}, identity, tags, _params(trial))
            history = self._client.get_metric_history(run_id, "images")
            self._sent_step[identity] = max((point.step for point in history), default=0)
            self._runs[identity] = run_id
        return self._runs[identity]

    def log_study(self, files: list[Path]) -> None:
        """Attach the study's own files (study file, report, fits) to the study's run and close it."""
        for file in files:
            self._client.log_artifact(self.study_run, str(file))
        self._client.set_terminated(self.study_run, "FAILED" if self._state.in_state("failed") else "FINISHED")

    def _send_trial(self, trial: TrialState, records: list[Record]) -> None:
        run_id = self.run_id(trial)
        sent = self._sent_step[trial.trial.id]
        metrics: dict[tuple[str, int], Metric] = {}
        for record in records:
            if record["event"] in ("step", "validated") and record["step"] > sent:
                at = int(record["at"] * 1000)
                values = {**record["metrics"], "images": record["images"], "training_flops": record["flops"]}
                for key, value in values.items():
                    if value is not None:
                        metrics[key, record["step"]] = Metric(key, float(value), at, record["step"])
            elif record["event"] == "pictures":
                self._client.log_artifact(run_id, str(trial.folder / record["path"]), "pictures")
            elif record["event"] == "started":
                lineage = [RunTag(f"lineage.{key}", str(value)) for key, value in record["lineage"].items()]
                self._client.log_batch(run_id, tags=[*lineage, RunTag("device", record["device"])])
        points = list(metrics.values())
        for start in range(0, len(points), METRICS_PER_CALL):
            self._client.log_batch(run_id, metrics=points[start : start + METRICS_PER_CALL])
        self._sent_step[trial.trial.id] = max([sent, *(step for _, step in metrics)])
        self._client.log_batch(
            run_id, tags=[RunTag("trial.state", trial.state), RunTag("trial.reason", trial.reason or "")]
        )
        if trial.state in ("finished", "failed"):
            self._client.set_terminated(run_id, MLFLOW_STATUS[trial.state])
        else:
            self._client.update_run(run_id, status=MLFLOW_STATUS[trial.state])

    def _find_or_create(
        self, identity: dict[str, str], name: str, tags: dict[str, str], params: Sequence[Param] = ()
    ) -> str:
        found = self._client.search_runs(
            [self.experiment_id],
            " and ".join(f"tags.{key} = '{value}'" for key, value in identity.items()),
            order_by=["attributes.start_time ASC"],
            max_results=1,
        )
        if found:
            return str(found[0].info.run_id)
        run = self._client.create_run(self.experiment_id, run_name=name, tags={**identity, **tags})
        if params:
            self._client.log_batch(run.info.run_id, params=params)
        return str(run.info.run_id)


def _params(trial: TrialState) -> list[Param]:
    values: dict[str, Any] = {
        "model": trial.trial.model,
        "data_fingerprint": trial.trial.data_fingerprint,
        "resolution": trial.trial.resolution,
        "workers": trial.trial.workers.workers,
        "device": trial.trial.workers.device,
        **{f"cost.{key}": value for key, value in trial.cost.items()},
        **_flat("recipe", trial.trial.recipe.model_dump(mode="json", exclude={"overrides"})),
        **_flat("model", trial.trial.model_config_values),
    }
    return [Param(key, str(value)) for key, value in values.items()]


def _flat(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(f"{prefix}.{key}", value) if isinstance(value, dict) else {f"{prefix}.{key}": value}
    return flat
