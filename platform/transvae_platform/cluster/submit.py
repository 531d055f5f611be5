"""Submitting a study, from the file to the report: the one place that joins all parts.

Steps: check everything that can be checked, lock the study, ingest the photographs, queue what is not finished, let
Ray Tune run it while a follower reads the journals (progress, MLflow), register the best checkpoints.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transvae_platform.cluster.schedule import (
    check_devices,
    cluster_devices,
    local_devices,
    ray_session,
    run_trials,
)
from transvae_platform.data.ingest import ingest, run_on_ray
from transvae_platform.data.sources import Photograph, list_photographs
from transvae_platform.data.split import data_fingerprint, samples_per_photograph, split_photographs
from transvae_platform.errors import SpecError, UnreachableError, UserError
from transvae_platform.lineage import lineage
from transvae_platform.redaction import without_password
from transvae_platform.study.folders import study_folder
from transvae_platform.study.grid import Trial, build_grid
from transvae_platform.study.identity import refuse_changed_study
from transvae_platform.study.journal import Journal, study_lock
from transvae_platform.study.plan import Plan, build_plan, model_cost
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.state import StudyState
from transvae_platform.tracking.registry import register_best
from transvae_platform.tracking.runs import Tracker, answering, connect

Listener = Callable[[StudyState, str], None]
"""Told of progress: the study's state and a line about the current stage; called every two seconds."""
FOLLOW_SECONDS = 2.0


@dataclass(frozen=True)
class Prepared:
    """A study that passed every check which needs no cluster."""

    spec: StudySpec
    photographs: tuple[Photograph, ...]
    trials: tuple[Trial, ...]


def prepare(spec: StudySpec) -> Prepared:
    """Read the photographs and build the grid.

    Raises:
        SpecError: anything in the study file that cannot work.
    """
    photographs = list_photographs(spec.data)
    train, _ = split_photographs(photographs, spec.data)
    trials = build_grid(spec, data_fingerprint(photographs, spec.data))
    samples, batch = len(train) * samples_per_photograph(spec.data), spec.recipe.batch_size
    if samples < batch:
        raise SpecError(
            f"data: {len(train)} training photographs give {samples} samples, fewer than one batch of {batch} - add "
            "images, cut more crops (data.view.per_photograph) or lower recipe.batch_size"
        )
    return Prepared(spec, photographs, trials)


def plan_study(prepared: Prepared, home: Path, address: str | None = None) -> Plan:
    """The plan against this machine, or against a running cluster; starts nothing, writes nothing."""
    current = _open_study(study_folder(home, prepared.spec.study))
    left = [trial for trial in prepared.trials if _state_of(current, trial) != "finished"]
    if address is None:
        cpus, gpus = local_devices()
        check_devices(left, cpus, gpus, "this machine")
    else:
        with ray_session(address):
            cpus, gpus = cluster_devices()
        check_devices(left, cpus, gpus, f"the cluster at {address}")
    return build_plan(prepared.trials, {"cpu": cpus, "gpu": gpus}, home, current)


def submit_study(
    prepared: Prepared, home: Path, tracking_uri: str, listen: Listener, address: str | None = None
) -> StudyState:
    """Run a study to its end, or continue it; returns its state.

    Raises:
        SpecError: the study exists with another specification, or asks for devices that are not there.
        UnreachableError: home, tracking server or cluster cannot be used.
        UserError: the study is running already, or its photographs cannot be used.
    """
    home = home.resolve()
    folder = study_folder(home, prepared.spec.study)
    _check_writable(folder)
    client = connect(tracking_uri, home)
    with study_lock(folder) as fence:
        state = StudyState(folder)
        refuse_changed_study(state, prepared.spec, prepared.trials[0].data_fingerprint)
        journal = Journal(folder / "journal.jsonl")
        left = [trial for trial in prepared.trials if _state_of(state, trial) != "finished"]
        record = lineage()
        with answering(client):
            tracker = Tracker(client, state, home)
        if left:
            listen(state, "starting Ray")
            with ray_session(address):
                cpus, gpus = local_devices() if address is None else cluster_devices()
                check_devices(left, cpus, gpus, f"the cluster at {address}" if address else "this machine")
                journal.append(
                    "submitted",
                    spec=prepared.spec.model_dump(mode="json"),
                    lineage=record,
                    tracking=without_password(tracking_uri),
                    cluster=address or "local",
                )
                _ingest(prepared, home, journal, state, listen)
                _queue(left, journal, state)
                with _Follower(state, tracker, listen):
                    run_trials(left, folder, home, fence, record)
        tracker.take(state.refresh())
        with answering(client):
            _register(state, tracker, client, journal, listen)
        journal.close()
    state.refresh()
    listen(state, "done")
    return state


def _open_study(folder: Path) -> StudyState | None:
    try:
        return StudyState(folder) if folder.exists() else None
    except OSError as error:
        raise UnreachableError(f"--home: {folder} cannot be read ({error}) - choose another folder") from None


def _state_of(state: StudyState | None, trial: Trial) -> str | None:
    known = state.trials.get(trial.id) if state else None
    return known.state if known else None


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable.{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise UnreachableError(f"--home: {folder} cannot be written ({error}) - choose another folder") from None


def _ingest(prepared: Prepared, home: Path, journal: Journal, state: StudyState, listen: Listener) -> None:
    photographs = f"ingesting {len(prepared.photographs)} photographs"
    listen(state, photographs)
    manifest = ingest(
        prepared.photographs,
        prepared.spec.data,
        home,
        run_on_ray,
        lambda done, shards: listen(state, f"{photographs}, {done} of {shards} shards"),
    )
    journal.append(
        "ingested",
        fingerprint=manifest.fingerprint,
        photographs=manifest.photographs,
        train=manifest.samples("train"),
        validation=manifest.samples("validation"),
        skipped=[vars(skip) for skip in manifest.skipped],
    )
    state.refresh()
    if manifest.samples("train") < prepared.spec.recipe.batch_size:
        raise UserError(
            f"data: {manifest.samples('train')} training samples were readable, fewer than one batch of "
            f"{prepared.spec.recipe.batch_size} - add images or lower recipe.batch_size"
        )


def _queue(left: Sequence[Trial], journal: Journal, state: StudyState) -> None:
    for trial in left:
        journal.append("queued", trial=trial.model_dump(mode="json"), cost=model_cost(trial))
        if _state_of(state, trial) in ("failed", "running"):  # an earlier submission gave it up or was killed
            own = Journal(state.trials[trial.id].folder / "journal.jsonl")
            own.append("queued")
            own.close()
    state.refresh()


def _register(state: StudyState, tracker: Tracker, client: Any, journal: Journal, listen: Listener) -> None:
    listen(state, "sending the last records to MLflow")
    if not tracker.send(now=True):
        listen(state, f"{tracker.problem} - submit again to send them")
        return
    for trial in state.in_state("finished"):  # also those registered before: the server may have lost them
        listen(state, f"registering {trial.trial.label}")
        try:
            version = register_best(client, tracker.experiment_id, tracker.run_id(trial), trial)
        except UnreachableError:
            raise
        except UserError as error:  # this one may not be promoted; the others are
            if trial.unregistered != str(error):
                journal.append("not_registered", trial=trial.trial.id, reason=str(error))
            continue
        if trial.registered is None or version.items() - trial.registered.items():
            journal.append("registered", trial=trial.trial.id, **version)
    state.refresh()


class _Follower(threading.Thread):
    """Reads the journals while Ray works: progress for the user, records for MLflow."""

    def __init__(self, state: StudyState, tracker: Tracker, listen: Listener) -> None:
        super().__init__(name="follower", daemon=True)
        self._state, self._tracker, self._listen = state, tracker, listen
        self._end = threading.Event()
        self._error: BaseException | None = None

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *exception: object) -> None:
        self._end.set()
        self.join()
        if self._error is not None:
            raise self._error

    def run(self) -> None:
        try:
            while not self._end.wait(FOLLOW_SECONDS):
                self._tracker.take(self._state.refresh())
                self._tracker.send()
                self._listen(self._state, self._tracker.problem or "training")
        except Exception as error:  # noqa: BLE001 - handed to the main thread, which raises it
            self._error = error
