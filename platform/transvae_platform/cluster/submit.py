"""Submitting a study, from the file to the report: the one place that joins all parts.

Steps: check everything that can be checked, take the study's lease (or follow the process that holds it to its end),
ingest the photographs, queue what is not finished, let Ray Tune run it while a follower reads the journals (progress,
MLflow), register the best checkpoints.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transvae_platform.cluster.devices import check_devices, local_devices, local_gpu_bytes
from transvae_platform.cluster.follow import Follower, Listener, take_turn
from transvae_platform.cluster.frozen import fetch_frozen, refuse_impossible_losses, refuse_missing_files
from transvae_platform.cluster.initial import find_initial
from transvae_platform.cluster.schedule import cluster_devices, ray_session, run_trials
from transvae_platform.data.listing import Listing, list_source
from transvae_platform.data.listing.bundled import list_bundled
from transvae_platform.data.making.images import samples_per_item
from transvae_platform.data.making.ingest import ingest, ingest_key
from transvae_platform.data.making.on_ray import run_on_ray
from transvae_platform.data.making.split import split_listing
from transvae_platform.data.making.work import find_made
from transvae_platform.data.sets.catalogue import NoDataSetError, TrainingData, at_home
from transvae_platform.data.sets.fit import images_for
from transvae_platform.errors import SpecError, UnreachableError, UserError
from transvae_platform.lineage import lineage
from transvae_platform.redaction import without_password
from transvae_platform.study.data_spec import Data
from transvae_platform.study.folders import study_folder
from transvae_platform.study.grid import Initial, Trial, build_grid
from transvae_platform.study.identity import refuse_changed_study
from transvae_platform.study.journal import Journal
from transvae_platform.study.lease import Fence
from transvae_platform.study.plan import Plan, build_plan, model_cost, refuse_too_big
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.state import StudyState
from transvae_platform.tracking.registry import register_best
from transvae_platform.tracking.runs import Tracker
from transvae_platform.tracking.server import answering, reach
from transvae_platform.training.places import check_place

NOT_MADE = "not-made-yet"
"""Stands for the fingerprint of a data set in plans made before it."""


@dataclass(frozen=True)
class Prepared:
    """A study that passed every check which needs no cluster."""

    spec: StudySpec
    listing: Listing | None
    """What the source holds; None where the data sets are made already by `transvae data ingest`."""
    data: TrainingData | None
    """What is trained on, if it is made."""
    trials: tuple[Trial, ...]
    """Their ids are final once the data set is made."""
    initial: Mapping[str, Initial]
    """What they start from, by `family-size`, if not from random weights."""

    @property
    def fingerprint(self) -> str | None:
        """Of the data set; None while it is not made."""
        return self.data.fingerprint if self.data else None


def prepare(spec: StudySpec, home: Path, tracking_uri: str | None = None) -> Prepared:
    """List the images, or find the data sets, and build the grid.

    Raises:
        SpecError: anything in the study file that cannot work.
        UnreachableError: the registry that it starts from does not answer.
    """
    listing, made = None, None
    if spec.data.source in ("dataset", "mixture"):
        made = _find_parts(spec.data, home)
        samples, held_out = made.samples("train"), made.samples("validation")
    else:
        listing = list_bundled() if spec.data.path is None else list_source(spec.data.path, spec.data.layout)
        table = split_listing(listing, spec.data)
        found = find_made(home, ingest_key(table, spec.data))
        made = TrainingData(((at_home(home, found), 1.0),)) if found else None
        held_out = table.column("split").to_pylist().count("validation")
        images = table.num_rows - held_out
        samples = found.samples("train") if found else images * samples_per_item(spec.data)
    _refuse_no_validation(held_out, spec.data)
    _refuse_too_few(samples, spec)
    initial = find_initial(spec, _open_study(study_folder(home, spec.study)), home, tracking_uri)
    trials = build_grid(spec, made.fingerprint if made else NOT_MADE, initial)
    refuse_missing_files(spec, trials)
    refuse_impossible_losses(trials)
    return Prepared(spec, listing, made, trials, initial)


def _find_parts(data: Data, home: Path) -> TrainingData:
    """The data sets that a study names.

    Raises:
        SpecError: one cannot serve, or two are the same; names its key.
    """
    parts = []
    for part, share in (data.parts or {str(data.path): 1.0}).items():
        try:
            parts.append((images_for(data, home, part), share))
        except NoDataSetError as error:
            key = f"data.parts.{part}" if data.parts else "data.path"
            raise SpecError(f"{key}: {error}") from None
    return TrainingData(tuple(parts))


def _refuse_no_validation(held_out: int, data: Data) -> None:
    if not held_out:
        way_out = (
            "train on one that was ingested with a hold-out, or add one as a part (source: mixture)"
            if data.source in ("dataset", "mixture")
            else "hold some out (data.holdout), or add images"
        )
        raise SpecError(f"data: {data.path or data.source} has no validation images, and studies validate - {way_out}")


def _refuse_too_few(samples: int, spec: StudySpec) -> None:
    if samples < spec.recipe.batch_size:
        raise SpecError(
            f"data: {samples} training samples are fewer than one batch of {spec.recipe.batch_size} - add images, cut "
            "more crops (data.view.per_photograph) or lower recipe.batch_size"
        )


def plan_study(prepared: Prepared, home: Path, address: str | None = None) -> Plan:
    """The plan against this machine, or against a running cluster; starts nothing, writes nothing."""
    current = _open_study(study_folder(home, prepared.spec.study))
    left = _left(prepared.trials, current, ("finished",))
    if address is None:
        cpus, gpus = local_devices()
        check_devices(left, cpus, gpus, "this machine")
    else:
        with ray_session(address):
            cpus, gpus = cluster_devices()
        check_devices(left, cpus, gpus, f"the cluster at {address}")
    plan = build_plan(prepared.trials, {"cpu": cpus, "gpu": gpus}, home, current)
    said = prepared.spec.resources.gpu_memory
    refuse_too_big(plan, said * 1e9 if said else local_gpu_bytes() if address is None else None)
    return plan


def submit_study(
    prepared: Prepared, home: Path, tracking_uri: str, listen: Listener, address: str | None = None
) -> StudyState:
    """Run a study to its end, continue it, or follow the process that runs it; returns its state.

    After following, what has not ended is run here: nothing if the other process came to its end, the rest if it was
    killed. Trials that failed there are left as they are.

    Raises:
        SpecError: the study exists with another specification, or asks for devices that are not there.
        UnreachableError: home, place of the checkpoints, weights of a frozen network, tracking server or cluster
            cannot be used.
        UserError: its photographs cannot be used, or a later submission has taken over.
        DetachedError: Ctrl-C while following.
    """
    home = home.resolve()
    folder = study_folder(home, prepared.spec.study)
    _check_writable(home)
    check_place(prepared.spec.resources.checkpoints)
    server = reach(tracking_uri, home)
    lease, followed = take_turn(folder, prepared.spec, prepared.fingerprint, listen)
    with lease as fence:
        if followed:  # the other process may have made the data set, and with it the trials' ids
            prepared = prepare(prepared.spec, home, tracking_uri)
        state = StudyState(folder)
        refuse_changed_study(state, prepared.spec, prepared.fingerprint)
        journal = Journal(folder / "journal.jsonl", fence)
        ended = ("finished", "failed") if followed else ("finished",)
        left = _left(prepared.trials, state, ended)
        record = lineage(folder / "lineage")
        tracker = Tracker(server, state, home)
        if left:
            spec = fetch_frozen(prepared.spec, prepared.trials, home)
            listen(state, "starting Ray")
            with ray_session(address):
                cpus, gpus = local_devices() if address is None else cluster_devices()
                check_devices(left, cpus, gpus, f"the cluster at {address}" if address else "this machine")
                if server.silent:  # known to have answered before: the study runs, its points wait
                    journal.append("not_tracked", reason=server.silent)
                    listen(state, server.silent)
                journal.append(
                    "submitted",
                    spec=prepared.spec.model_dump(mode="json"),
                    lineage=record,
                    tracking=without_password(tracking_uri),
                    cluster=address or "local",
                )
                made = _ingest(prepared, home, journal, state, listen)
                left = _left(build_grid(spec, made.fingerprint, prepared.initial), state, ended)
                _queue(left, journal, state, fence)
                if left:  # a finished study's images may only have had to be read again
                    with Follower(state, tracker, lease, listen):
                        run_trials(left, folder, fence, record, _places(made, prepared.spec))
        tracker.take(state.refresh())
        _register(state, tracker, journal, listen)
        journal.close()
    state.refresh()
    listen(state, "done")
    return state


def _left(trials: Sequence[Trial], state: StudyState | None, ended: Sequence[str]) -> list[Trial]:
    return [trial for trial in trials if _state_of(state, trial) not in ended]


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


def _ingest(prepared: Prepared, home: Path, journal: Journal, state: StudyState, listen: Listener) -> TrainingData:
    made = prepared.data
    if made is None:
        assert prepared.listing is not None, "what is not made has a source"
        listen(state, f"ingesting {prepared.listing.table.num_rows} images")
        manifest = ingest(
            prepared.listing,
            prepared.spec.data,
            home,
            run_on_ray,
            lambda done, items: listen(state, f"ingesting, {done} of {items} images"),
        )
        made = TrainingData(((at_home(home, manifest), 1.0),))
        refuse_changed_study(state, prepared.spec, made.fingerprint)
        _refuse_too_few(made.samples("train"), prepared.spec)
    journal.append(
        "ingested",
        fingerprint=made.fingerprint,
        locations=[part.location for part, _ in made.parts],
        images=made.items,
        train=made.samples("train"),
        validation=made.samples("validation"),
        skipped=[vars(item) for item in made.quarantined],
    )
    state.refresh()
    return made


def _places(made: TrainingData, spec: StudySpec) -> dict[str, Any]:
    """Where a trial's workers find the data, and how much of what is far away they may keep."""
    places = [(part.location, share) for part, share in made.parts]
    return {"data": places, "cache_bytes": spec.data.cache_bytes}


def _queue(left: Sequence[Trial], journal: Journal, state: StudyState, fence: Fence) -> None:
    for trial in left:
        journal.append("queued", trial=trial.model_dump(mode="json"), cost=model_cost(trial))
        if _state_of(state, trial) in ("failed", "running"):  # an earlier submission gave it up or was killed
            own = Journal(state.trials[trial.id].folder / "journal.jsonl", fence)
            own.append("queued")
            own.close()
    state.refresh()


def _register(state: StudyState, tracker: Tracker, journal: Journal, listen: Listener) -> None:
    listen(state, "sending the last records to MLflow")
    if not tracker.send(now=True):
        journal.append("not_tracked", reason=tracker.problem)
        listen(state, f"{tracker.problem} - submit again to send them")
        return
    for trial in state.in_state("finished"):  # also those registered before: the server may have lost them
        listen(state, f"registering {trial.trial.label}")
        try:
            with answering(tracker.client):
                version = register_best(tracker.client, tracker.experiment_id, tracker.run_id(trial), trial)
        except UnreachableError:
            raise
        except UserError as error:  # this one may not be promoted; the others are
            if trial.unregistered != str(error):
                journal.append("not_registered", trial=trial.trial.id, reason=str(error))
            continue
        if trial.registered is None or version.items() - trial.registered.items():
            journal.append("registered", trial=trial.trial.id, **version)
    state.refresh()
