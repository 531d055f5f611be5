"""The experiment and the runs of a study in MLflow: found by their tags, made once (`tracking/runs.py`, 2)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow.entities import Param, Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from transvae_platform.study.folders import artifacts_of
from transvae_platform.study.state import StudyState, TrialState
from transvae_platform.tracking.server import Server


class StudyRuns:
    """Each of them is looked for once. Every method raises what the server's client does."""

    def __init__(self, server: Server, state: StudyState, home: Path) -> None:
        self._server, self._state, self._home = server, state, home
        self._experiment: str | None = None
        self._study_run: str | None = None
        self._runs: dict[str, Run] = {}

    @property
    def experiment_id(self) -> str:
        """The study's experiment, made if it does not exist."""
        if self._experiment is None:
            found = self._server.client().get_experiment_by_name(self._state.name)
            if found is None:
                artifacts = f"{artifacts_of(self._home)}/{self._state.name}"
                local = self._server.uri.startswith("sqlite:")
                created = self._server.client().create_experiment(
                    self._state.name, artifact_location=artifacts if local else None
                )
            self._experiment = str(created if found is None else found.experiment_id)
        return self._experiment

    @property
    def study_run(self) -> str:
        """The run of the study as a whole, made if it does not exist."""
        if self._study_run is None:
            tags = {"kind": "study", "study": self._state.name, "journal": self._journal}
            self._study_run = str(self._find_or_create(tags, f"study {self._state.name}", {}).info.run_id)
        return self._study_run

    def of(self, trial: TrialState) -> Run:
        """The run of a trial, made if it does not exist."""
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
            key = {"kind": "trial", "trial_id": identity, "journal": self._journal}
            run = self._find_or_create(key, identity, tags)
            if not run.data.params:
                self._server.client().log_batch(run.info.run_id, params=_params(trial))
            self._runs[identity] = run
        return self._runs[identity]

    def forget(self, trial: TrialState) -> None:
        """Look for a trial's run again."""
        self._runs.pop(trial.trial.id, None)

    def give_up(self, trial: TrialState, reason: str) -> None:
        """Move a trial's run to MLflow's trash, so that a new one is made."""
        run_id = self.of(trial).info.run_id
        self._server.client().set_tag(run_id, "superseded", reason)
        self._server.client().delete_run(run_id)
        self.forget(trial)

    @property
    def _journal(self) -> str:
        first = json.dumps(self._state.submissions[0], sort_keys=True)
        return hashlib.sha256(first.encode()).hexdigest()[:16]

    def _find_or_create(self, key: Mapping[str, str], name: str, tags: Mapping[str, str]) -> Run:
        condition = " and ".join(f"tags.{name} = '{value}'" for name, value in key.items())
        order = ["attributes.start_time ASC"]
        found = self._server.client().search_runs([self.experiment_id], condition, order_by=order)
        if not found:
            self._server.client().create_run(self.experiment_id, run_name=name, tags={**key, **tags})
            found = self._server.client().search_runs([self.experiment_id], condition, order_by=order)
        for extra in found[1:]:  # a request whose answer was lost is repeated by the HTTP library itself
            self._server.client().set_tag(extra.info.run_id, "superseded", "it was made twice")
            self._server.client().delete_run(extra.info.run_id)
        return found[0]


def _params(trial: TrialState) -> list[Param]:
    values: dict[str, Any] = {
        "model": trial.trial.model,
        "data_fingerprint": trial.trial.data_fingerprint,
        "resolution": trial.trial.resolution,
        "workers": trial.trial.workers.workers,
        "device": trial.trial.workers.device,
        **{f"cost.{key}": value for key, value in trial.cost.items()},
        **_flat("generator", trial.trial.generator.model_dump(mode="json") if trial.trial.generator else {}),
        **_flat("recipe", trial.trial.recipe.model_dump(mode="json", exclude={"overrides"})),
        **_flat("model", trial.trial.model_config_values),
    }
    return [Param(key, str(value)) for key, value in values.items()]


def _flat(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(f"{prefix}.{key}", value) if isinstance(value, dict) else {f"{prefix}.{key}": value}
    return flat
