"""Submitting a study, from the file to the report: the one place that joins all parts.

Steps: check everything that can be checked, take the study's lease (or follow the process that holds it to its end),
ingest the photographs, queue what is not finished, let Ray Tune run it while a follower reads the journals (progress,
MLflow) and errands between trials are run (`downstream.py`), register the best checkpoints, measure what they are for
tables 1 and 2.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from transvae_platform.cluster.damaged_data import set_aside_damaged
from transvae_platform.cluster.devices import check_devices, local_devices
from transvae_platform.cluster.downstream import Generators, find_tokenizers, refuse_labels
from transvae_platform.cluster.follow import Follower, Listener, take_turn
from transvae_platform.cluster.frozen import fetch_frozen
from transvae_platform.cluster.initial import refuse_other_tokenizers
from transvae_platform.cluster.planning import Prepared, prepare, refuse_too_few, unfinished
from transvae_platform.cluster.registering import Registrar
from transvae_platform.cluster.reopen import reopen_lost
from transvae_platform.cluster.rounds import run_rounds
from transvae_platform.cluster.schedule import cluster_devices, ray_session, run_trials
from transvae_platform.cluster.sources import make_source
from transvae_platform.cluster.table_inputs import fetch_networks
from transvae_platform.data.sets.catalogue import TrainingData
from transvae_platform.errors import UnreachableError
from transvae_platform.lineage import lineage
from transvae_platform.redaction import without_password
from transvae_platform.study.costs import model_cost
from transvae_platform.study.folders import study_folder
from transvae_platform.study.grid import build_grid
from transvae_platform.study.identity import refuse_changed_study
from transvae_platform.study.journal import Journal
from transvae_platform.study.lease import Fence
from transvae_platform.study.plan import build_plan
from transvae_platform.study.rates import Rate
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.state import OVER, StudyState
from transvae_platform.study.stopping import asked_to_stop
from transvae_platform.study.trial import Trial
from transvae_platform.tracking.runs import Tracker
from transvae_platform.tracking.server import reach
from transvae_platform.training.places import check_place


def submit_study(
    prepared: Prepared,
    home: Path,
    tracking_uri: str,
    listen: Listener,
    address: str | None = None,
    told: Callable[[], Mapping[str, Rate]] = dict,
) -> StudyState:
    """Run a study to its end, continue it, or follow the process that runs it; returns its state.

    After following, what has not ended is run here: nothing if the other process came to its end, the rest if it was
    killed. Trials that failed there are left as they are.

    Args:
        told: gives what the tracking server knows of rates, for the order and the budget.

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
        state = StudyState(folder)
        # the other process may have made the data set, and with it the trials' ids
        if followed or set_aside_damaged(prepared, state, home, partial(listen, state)):
            prepared = prepare(prepared.spec, home, tracking_uri)
        refuse_changed_study(state, prepared.spec, prepared.fingerprint)
        journal = Journal(folder / "journal.jsonl", fence)
        reopen_lost(state.trials.values(), fence)
        state.refresh()
        ended = (*OVER, "failed") if followed else OVER
        left = unfinished(prepared.trials, state, ended)
        record = lineage(folder / "lineage")
        tracker, say = Tracker(server, state, home), partial(listen, state)
        registrar = Registrar(state, tracker, journal, say)
        networks = fetch_networks(prepared.spec, home)
        if left:
            spec = fetch_frozen(prepared.spec, prepared.trials, home)
            tokenizers = find_tokenizers(left, home, tracking_uri)
            refuse_other_tokenizers(left, tokenizers)
            listen(state, "starting Ray")
            with ray_session(address):
                accelerator = None if address is None else spec.resources.accelerator  # one machine has what it has
                cpus, gpus = local_devices() if address is None else cluster_devices(accelerator)
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
                refuse_labels(prepared.spec, made)
                sets = {
                    name: make_source(other, home, lambda text: listen(state, text))
                    for name, other in prepared.sets.items()
                }
                known = {name: other.fingerprint for name, other in sets.items()}
                trials = build_grid(spec, made.fingerprint, prepared.initial, known, prepared.rates)
                left = unfinished(trials, state, ended)
                _queue(left, journal, state, fence)
                left = unfinished(left, state, ended)  # the record of a trial that had finished may have been damaged
                images = sum(made.samples(split) for split in ("train", "validation"))
                planned = build_plan(left, {"cpu": cpus, "gpu": gpus}, home, state, images, told())
                journal.append("planned", device_seconds=planned.seconds_by_trial)
                agenda = planned.agenda
                shared = _places(made, sets, prepared.spec)
                generators = Generators(made, tokenizers, home, tracking_uri, journal, state, fence, registrar)

                def run(trials: Sequence[Trial], until: int | None) -> None:
                    now = replace(agenda, budget=_budget_left(spec, state))
                    with Follower(state, tracker, lease, listen, generators.lock, generators.doing):
                        waiting = run_trials(
                            trials, now, folder, fence, record, lambda trial: shared | generators.places(trial), until,
                            generators.errands(trials), generators.lose, accelerator,
                        )  # fmt: skip
                    if waiting and not asked_to_stop(fence):
                        journal.append("not_started", trials=waiting, budget=spec.resources.budget)

                # `left` may be empty: a finished study's images may only have had to be read again
                run_rounds(spec.calibration, left, state, fence, run, lambda: tracker.take(state.refresh()))
                # the tracking server may answer by now
                if not asked_to_stop(fence) and (late := generators.late(left)):
                    run(late, None)
        tracker.take(state.refresh())
        _note_ends(state, journal)
        registrar.every()
        stopped = asked_to_stop(fence)
        if prepared.spec.tables is not None and not stopped:
            from transvae_platform.cluster.tables import measure_models  # 2 s of imports, which few studies need

            measure_models(prepared.spec, networks, home, tracking_uri, address, journal, state, say)
        journal.close()
    state.refresh()
    listen(state, "stopped, as somebody asked" if stopped else "done")
    return state


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable.{os.getpid()}"
        try:
            probe.write_bytes(bytes(4096))  # a full disk still makes empty files
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise UnreachableError(f"--home: {folder} cannot be written ({error}) - choose another folder") from None


def _ingest(prepared: Prepared, home: Path, journal: Journal, state: StudyState, listen: Listener) -> TrainingData:
    made = make_source(prepared.source, home, lambda text: listen(state, text))
    refuse_changed_study(state, prepared.spec, made.fingerprint)
    refuse_too_few(made.samples("train"), prepared.trials)
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


def _budget_left(spec: StudySpec, state: StudyState) -> float | None:
    """Device-seconds that the study may still spend; None without a budget."""
    budget = spec.resources.budget
    return None if budget is None else (budget - state.device_hours) * 3600


def _places(made: TrainingData, sets: Mapping[str, TrainingData], spec: StudySpec) -> dict[str, Any]:
    """Where a trial's workers find the data, and how much of what is far away they may keep."""

    def places(data: TrainingData) -> list[tuple[str, float]]:
        return [(part.location, share) for part, share in data.parts]

    others = {name: places(data) for name, data in sets.items()}
    return {"data": places(made), "sets": others, "cache_bytes": spec.data.cache_bytes}


def _queue(left: Sequence[Trial], journal: Journal, state: StudyState, fence: Fence) -> None:
    for trial in left:
        journal.append("queued", trial=trial.model_dump(mode="json"), cost=model_cost(trial))
        known = state.trials.get(trial.id)
        if known is None:
            continue
        unended = known.cut or known.records is None  # what stood at the end of its journal is missing or damaged
        if known.state != "queued" or unended:  # given up earlier, killed, or not known
            own = Journal(known.folder / "journal.jsonl", fence)
            if unended:
                own.miss(known.ended_with)
            own.append("queued")
            own.close()
    state.refresh()


def _note_ends(state: StudyState, journal: Journal) -> None:
    """Say of trials that are over how many records their journals have (`study/journal.py`, 11)."""
    for trial in state.trials.values():
        if trial.state in (*OVER, "failed") and not trial.doubtful and trial.records not in (None, trial.ended_with):
            journal.append("ended", trial=trial.trial.id, records=trial.records)
