"""MLflow is told what the journals say: one experiment per study, one run per trial, found again by a tag.

Protocol
1. The journal is the truth. A tracker reads its records and sends them in batches; nothing else writes to MLflow.
2. A run belongs to the trial whose id stands in its tag `trial_id`. A submission that continues a study continues it.
3. Per trial and metric, a step is sent once: on connecting, the largest step already in the metric's history is read,
   and steps up to it are passed over (repeated steps of a resumed trial have equal values).
4. A server that does not answer stops nothing: what was not sent stays queued and is tried again, in this submission
   or the next, which goes through the whole journals.
"""

from __future__ import annotations

import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from sqlalchemy.exc import SQLAlchemyError

from transvae_platform.errors import SpecError, UnreachableError
from transvae_platform.redaction import without_password
from transvae_platform.study.folders import store_of
from transvae_platform.study.journal import Record, read_journal
from transvae_platform.study.state import StudyState, TrialState

SEND_EVERY_SECONDS = 10.0  # one batch of many steps per call is 25 times faster than one call per step (measured)
METRICS_PER_CALL = 1000  # the server's limit for one batch
PICTURES = "pictures"  # folder of a run's artifacts
MLFLOW_STATUS = {"queued": "SCHEDULED", "running": "RUNNING", "finished": "FINISHED", "failed": "FAILED"}


def default_tracking_uri(home: Path) -> str:
    """`MLFLOW_TRACKING_URI` if set, else a SQLite file in the home folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or store_of(home)


def existing_tracking_uri(home: Path) -> str:
    """The default store for reading only: a mistyped home is an error, not a new and empty store.

    Raises:
        SpecError: neither `MLFLOW_TRACKING_URI` nor a store in the home.
    """
    uri = default_tracking_uri(home)
    if "MLFLOW_TRACKING_URI" not in os.environ and not (home / "mlflow.db").exists():
        raise SpecError(f"--home: {home} holds no MLflow store - give the folder that studies were run in, or a server")
    return uri


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
    for library in ("mlflow", "alembic"):
        logging.getLogger(library).setLevel(logging.WARNING)  # no lines about creating tables
    named = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    # MLflow also writes the address into the environment, where the next default would find it
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if named is not None:
        os.environ["MLFLOW_TRACKING_URI"] = named
    try:
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    except (MlflowException, OSError, SQLAlchemyError, ImportError) as error:  # ImportError: no driver for a database
        shown = without_password(uri)
        reason = _reason(error).replace(uri, shown)
        if isinstance(error, ImportError):
            reason += "; install the database's driver, for PostgreSQL the extra `postgres`"
        raise UnreachableError(
            f"tracking: the MLflow server at {shown} does not answer ({reason}) - start it, or correct "
            "MLFLOW_TRACKING_URI / --tracking-uri"
        ) from None
    return client


@contextmanager
def answering(client: MlflowClient) -> Iterator[None]:
    """For work that needs the server to the end: its errors become UnreachableError."""
    try:
        yield
    except MlflowException as error:
        raise UnreachableError(
            f"tracking: MLflow at {without_password(client.tracking_uri)} failed ({_reason(error)}) - what is in the "
            "study's journal is safe; mend the server and submit the same study again"
        ) from None


def _reason(error: BaseException) -> str:
    """The first line of an error: servers answer with pages of them."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


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
        self.study_run = self._find_or_create({"kind": "study", "study": state.name}, f"study {state.name}", {})[0]
        self._runs: dict[str, str] = {}
        self._sent: dict[str, dict[str, int]] = {}
        self._pictures: dict[str, set[str]] = {}
        self._outbox: dict[str, list[Record]] = defaultdict(list)
        for trial in state.trials.values():  # what earlier submissions could not send; the rest is passed over
            if records := read_journal(trial.folder / "journal.jsonl"):
                self._outbox[trial.trial.id] = records
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
        except Exception as error:  # noqa: BLE001 - artifact stores raise errors of their own; no failure may stop a study
            waiting = sum(map(len, self._outbox.values()))
            self.problem = f"MLflow does not answer, {waiting} records wait: {_reason(error)}"
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
            run_id, existed = self._find_or_create({"kind": "trial", "trial_id": identity}, identity, tags)
            data = self._client.get_run(run_id).data
            if not data.params:
                self._client.log_batch(run_id, params=_params(trial))
            self._sent[identity] = {
                key: max(point.step for point in self._client.get_metric_history(run_id, key)) for key in data.metrics
            }
            pictures = self._client.list_artifacts(run_id, PICTURES) if existed else []
            self._pictures[identity] = {picture.path for picture in pictures}
            self._runs[identity] = run_id
        return self._runs[identity]

    def log_study(self, files: Sequence[Path]) -> None:
        """Attach files of the study as a whole, such as its page, to the study's run, and end that run."""
        for file in files:
            self._client.log_artifact(self.study_run, str(file))
        self._client.set_terminated(self.study_run, "FAILED" if self._state.in_state("failed") else "FINISHED")

    def _send_trial(self, trial: TrialState, records: list[Record]) -> None:
        run_id = self.run_id(trial)
        sent = self._sent[trial.trial.id]
        metrics: dict[tuple[str, int], Metric] = {}
        tags = {"trial.state": trial.state, "trial.reason": trial.reason or ""}
        for record in records:
            if record["event"] in ("step", "validated"):
                at, step = int(record["at"] * 1000), record["step"]
                values = {**record["metrics"], "images": record["images"], "training_flops": record["flops"]}
                for key, value in values.items():
                    if value is not None and step > sent.get(key, 0):
                        metrics[key, step] = Metric(key, float(value), at, step)
            elif record["event"] == "pictures":
                self._send_picture(trial, run_id, record["path"])
            elif record["event"] == "started":
                # parameters cannot change: they say how the first attempt ran, the tags how the last one did
                first = {"attention": trial.started[0]["attention"], "ran_on": trial.started[0]["device"]}
                self._client.log_batch(run_id, params=[Param(key, str(value)) for key, value in first.items()])
                tags |= {"device": record["device"], "attention": record["attention"]}
                tags |= {f"lineage.{key}": str(value) for key, value in record["lineage"].items()}
        points = list(metrics.values())
        for start in range(0, len(points), METRICS_PER_CALL):
            chunk = points[start : start + METRICS_PER_CALL]
            self._client.log_batch(run_id, metrics=chunk)
            sent |= {point.key: point.step for point in chunk}
        self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        if trial.state in ("finished", "failed"):
            ended = int(records[-1]["at"] * 1000)
            self._client.set_terminated(run_id, MLFLOW_STATUS[trial.state], end_time=ended)
        else:
            self._client.update_run(run_id, status=MLFLOW_STATUS[trial.state])

    def _send_picture(self, trial: TrialState, run_id: str, path: str) -> None:
        file = trial.folder / path
        name, known = f"{PICTURES}/{file.name}", self._pictures[trial.trial.id]
        if name not in known and file.exists():
            self._client.log_artifact(run_id, str(file), PICTURES)
            known.add(name)

    def _find_or_create(self, identity: dict[str, str], name: str, tags: dict[str, str]) -> tuple[str, bool]:
        """A run's id, and whether it was there before."""
        found = self._client.search_runs(
            [self.experiment_id],
            " and ".join(f"tags.{key} = '{value}'" for key, value in identity.items()),
            order_by=["attributes.start_time ASC"],
            max_results=1,
        )
        if found:
            return str(found[0].info.run_id), True
        run = self._client.create_run(self.experiment_id, run_name=name, tags={**identity, **tags})
        return str(run.info.run_id), False


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
