"""How long steps take, from home to home: what trials measured is kept by the tracking server, and a plan asks it.

Protocol
1. Each kind of work on each device has a run in the experiment `measured rates`: its tag `rate` is `rate_key`, its
   metric the seconds per step, a point for every trial that finished in one piece. The newest point counts.
2. Whoever sends a finished trial's curves sends its rate, too (`runs.py`), so every study fills that experiment.
3. A plan asks while it computes, in a thread of its own, and at the latest after ANSWER_SECONDS goes on without an
   answer: with the last one, which is kept in the user's cache, and a sentence that says so. Nothing else follows from
   a server that does not answer. MLflow, which takes longer to import than a plan takes, is not imported for it.
4. Only servers are asked (http, https); a database is not. What this home's journals measured goes before.
"""

from __future__ import annotations

import base64
import json
import math
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from transvae_platform.files import whole_file
from transvae_platform.redaction import without_password
from transvae_platform.study.folders import artifacts_of, user_cache
from transvae_platform.study.rates import Rate, rate_key, rate_of
from transvae_platform.study.state import TrialState
from transvae_platform.study.trial import stable_hash

if TYPE_CHECKING:
    from transvae_platform.tracking.server import Server

EXPERIMENT = "measured rates"  # no study has a blank in its name
METRIC = "seconds_per_step"
ANSWER_SECONDS = 0.7  # from the question on: with it the plan of figure 5 takes less than 2 s (measured, idle cores)
MOST_RUNS = 10_000  # that are read (assumption: more than there are kinds of work)
NOT_THERE = "RESOURCE_DOES_NOT_EXIST"  # MLflow's word for an experiment that nobody made yet


class RateRuns:
    """The writer. Raises what the server's client does."""

    def __init__(self, server: Server, home: Path) -> None:
        self._server, self._home = server, home
        self._experiment: str | None = None

    def keep(self, trial: TrialState) -> None:
        """Send what a trial measured, if it did; again has no effect."""
        measured, client = rate_of(trial), self._server.client()
        if measured is None:
            return
        key = rate_key(trial.trial)
        runs = client.search_runs([self._experiment_id()], f"tags.rate = '{key}'")
        run = next((run for run in runs if run.data.tags.get("device") == measured.device), None)
        if run is None:
            tags = {"kind": "rate", "rate": key, "device": measured.device, "model": trial.trial.model}
            name = f"{trial.trial.model} on {measured.device}"
            run = client.create_run(self._experiment_id(), run_name=name, tags=tags)
        at = int(trial.at * 1000)
        client.log_metric(run.info.run_id, METRIC, measured.seconds_per_step, timestamp=at, step=0)
        client.set_terminated(run.info.run_id, end_time=at)

    def _experiment_id(self) -> str:
        if self._experiment is None:
            client = self._server.client()
            found = client.get_experiment_by_name(EXPERIMENT)
            if found is not None and found.lifecycle_stage == "deleted":  # in MLflow's trash: its name stays taken
                client.restore_experiment(found.experiment_id)
            if found is None:
                # beside those of studies: MLflow's own place for artifacts is the working directory
                artifacts = f"{artifacts_of(self._home)}/rates" if self._server.uri.startswith("sqlite:") else None
                self._experiment = str(client.create_experiment(EXPERIMENT, artifact_location=artifacts))
            else:
                self._experiment = str(found.experiment_id)
        return self._experiment


class Asked:
    """A server that was asked for its rates; asking starts with the object."""

    def __init__(self, uri: str | None, cache: Path | None = None, patience: float | None = None) -> None:
        """Args:
        uri: of an MLflow server; anything else is not asked and tells nothing.
        cache: the folder in which answers are kept; default the user's.
        patience: seconds, counted from now; default ANSWER_SECONDS.
        """
        self.problem: str | None = None
        """Why there was no answer, in a sentence, once `rates` was called."""
        self._uri = uri if uri and uri.startswith(("http://", "https://")) else None
        self._cache = cache or user_cache()
        self._patience = ANSWER_SECONDS if patience is None else patience
        self._end = time.monotonic() + self._patience
        self._answer: dict[str, Rate] | None = None
        self._failure = f"no answer within {self._patience:g} s"
        if self._uri:
            self._thread = threading.Thread(target=self._ask, args=(self._uri,), name="rates", daemon=True)
            self._thread.start()

    def rates(self) -> Mapping[str, Rate]:
        """What the server knows, by `rate_key`; what it last said where it does not answer in time."""
        if self._uri is None:
            return {}
        self._thread.join(max(0.0, self._end - time.monotonic()))
        file = self._cache / f"rates-{stable_hash(without_password(self._uri))[:16]}.json"
        if self._answer is not None:
            _keep(file, self._answer)
            return self._answer
        kept = _kept(file)
        instead = "what it last said counts" if kept else "times that only it knows are computed from FLOPs"
        self.problem = (
            f"tracking: {without_password(self._uri)} was asked for measured times: {self._failure}; {instead}"
        )
        return kept

    def _ask(self, uri: str) -> None:
        try:
            self._answer = _told(uri, self._patience)
        except (OSError, HTTPException) as error:
            cause = getattr(error, "reason", None) or error
            if not isinstance(cause, TimeoutError):  # whether one call or all of them took too long is the same
                self._failure = str(cause) or type(error).__name__
        except (ValueError, KeyError, TypeError, AttributeError):
            self._failure = "its answer is none of MLflow's"


def _told(uri: str, seconds: float) -> dict[str, Rate]:
    try:
        name = quote(EXPERIMENT)
        experiment = _call(uri, f"experiments/get-by-name?experiment_name={name}", None, seconds)["experiment"]
    except HTTPError as error:
        if NOT_THERE in error.read().decode(errors="replace"):
            return {}
        raise
    asked = {"experiment_ids": [experiment["experiment_id"]], "max_results": MOST_RUNS}
    newest: dict[str, tuple[int, Rate]] = {}
    for run in _call(uri, "runs/search", asked, seconds).get("runs", []):
        tags = {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}
        for metric in run["data"].get("metrics", []):
            value, at = float(metric["value"]), int(metric["timestamp"])
            if metric["key"] == METRIC and {"rate", "device"} <= tags.keys() and math.isfinite(value) and value > 0:
                each = at, Rate(value, tags["device"], told=True)
                newest[tags["rate"]] = max(newest.get(tags["rate"], each), each, key=lambda one: one[0])
    return {key: rate for key, (_, rate) in newest.items()}


def _call(uri: str, path: str, body: dict[str, Any] | None, seconds: float) -> dict[str, Any]:
    """One call of MLflow's REST API, with the credentials that MLflow's own client would take from the same places."""
    parts = urlsplit(uri)
    headers = {"Content-Type": "application/json"}
    user = unquote(parts.username or "") or os.environ.get("MLFLOW_TRACKING_USERNAME")
    password = unquote(parts.password or "") or os.environ.get("MLFLOW_TRACKING_PASSWORD")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    if user and password:
        headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    elif token:
        headers["Authorization"] = f"Bearer {token}"
    plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(f"{plain}/api/2.0/mlflow/{path}", data, headers), timeout=seconds) as answer:
        return dict(json.load(answer))


def _keep(file: Path, rates: Mapping[str, Rate]) -> None:
    with suppress(OSError):  # a cache that cannot be written costs nothing but an outage's estimates
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as temporary:
            temporary.write_text(json.dumps({key: [rate.seconds_per_step, rate.device] for key, rate in rates.items()}))


def _kept(file: Path) -> dict[str, Rate]:
    with suppress(OSError, ValueError, TypeError, AttributeError):
        return {
            key: Rate(float(seconds), str(device), told=True)
            for key, (seconds, device) in json.loads(file.read_text()).items()
        }
    return {}
