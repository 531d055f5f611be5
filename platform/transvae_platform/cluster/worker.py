"""What Ray runs for one trial: the driver (one Tune trial, on the head) and its Ray Train workers.

The driver starts a `TorchTrainer` and waits; the workers run `training/loop.py` on the trial's kind of task.
Checkpoints, journal and data order are the platform's own, so a worker that Ray starts again continues from the newest
good checkpoint by itself.
"""

from __future__ import annotations

import os
import traceback
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray.train
from ray import tune

from transvae_platform.cluster.failures import TellFailures, charged, fence_of, given_up, record_failure, root_cause
from transvae_platform.study.journal import PATIENCE, Journal, JournalReader, read_journal
from transvae_platform.study.lease import SupersededError
from transvae_platform.study.stopping import asked_to_stop
from transvae_platform.study.trial import Trial

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

    from transvae_platform.world import Notice, World

WELL = ("finished", "paused")
"""Events with which an attempt ends as it was meant to."""
REPORT_SECONDS = 2.0  # how often a driver looks for validations to tell Tune; assumption: trials validate less often


def drive_trial(config: dict[str, Any]) -> None:
    """One Tune trial: run the trial's workers to the end, retrying as often as the study allows.

    The outcome stands in the trial's journal, and whatever it is, Tune sees a trial that ended: only a driver that
    died itself is started again, by Tune, and continues with the retries that the workers before it left. Tune is told
    each validation that the journal gains (Ray's own way, `TuneReportCallback`, needs one more process per trial).
    """
    job = config["job"]
    trial, folder = Trial.model_validate(job["trial"]), Path(job["folder"])
    with suppress(SupersededError):
        fence_of(job).check()
        deaths = charged(folder) - job["charged"]
        if deaths > trial.max_failures:
            record_failure(job, f"its processes died {deaths} times", "the driver's among them")
            return
        try:
            _run(_trainer(job, trial, trial.max_failures - deaths), folder)
        except ray.train.TrainingFailedError as error:
            record_failure(job, _reason(error), str(error))


def _trainer(job: dict[str, Any], trial: Trial, retries: int) -> TorchTrainer:
    from ray.train.torch import TorchTrainer

    use_gpu = trial.workers.device == "gpu"
    return TorchTrainer(
        train_worker,
        train_loop_config=job,
        scaling_config=ray.train.ScalingConfig(
            num_workers=trial.workers.workers,
            use_gpu=use_gpu,
            resources_per_worker={"GPU" if use_gpu else "CPU": 1},
            placement_strategy="STRICT_PACK" if job["one_node"] else "PACK",
            accelerator_type=job["accelerator"],
        ),
        run_config=ray.train.RunConfig(
            # a new name per driver: Ray must start from nothing, our checkpoints say where to continue
            name=f"{trial.id}-{uuid.uuid4().hex}",
            storage_path=job["ray_storage"],
            callbacks=[TellFailures(job)],
            # what a trial is not charged for: nodes that were taken away (no limit), and waiting for new ones (none)
            failure_config=ray.train.FailureConfig(
                max_failures=retries, max_preemption_failures=-1, controller_failure_limit=-1
            ),
            logging_config=ray.train.LoggingConfig(log_level="ERROR"),
        ),
    )


def _run(trainer: TorchTrainer, folder: Path) -> None:
    """Train, and tell Tune of it. Raises TrainingFailedError if the workers died too often."""
    journal = JournalReader(folder / "journal.jsonl")
    journal.skip()  # an earlier driver has reported these
    run = ThreadPoolExecutor(1).submit(trainer.fit)
    over = False
    while not over:
        over = bool(wait([run], timeout=REPORT_SECONDS).done)
        for record in journal.new():
            if record["event"] == "validated":
                tune.report({**record["metrics"], "step": record["step"]})
    run.result()


def train_worker(job: dict[str, Any]) -> dict[str, Any]:
    """One Ray Train worker: connect the training loop to its process group, its device and its journal."""
    from ray.train.torch import get_device, prepare_model

    from transvae_platform.world import World

    trial, folder = Trial.model_validate(job["trial"]), Path(job["folder"])
    if (reason := given_up(folder)) is not None:
        return {"failed": reason}
    context = ray.train.get_context()
    world = World(
        rank=context.get_world_rank(),
        size=context.get_world_size(),
        device=get_device(),
        wrap=prepare_model,
        notice=_notice,
        stop=partial(asked_to_stop, fence_of(job)),
    )
    journal = None
    if world.rank == 0:
        journal = Journal(folder / "journal.jsonl", fence_of(job).attempt(folder), patience=PATIENCE)
    try:
        return train_one(job, trial, world, journal)
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]  # the traceback itself does not travel
        error.add_note(f"at {frame.filename}:{frame.lineno}, in {frame.name}")
        raise
    finally:
        if journal:
            journal.close()


def train_one(job: dict[str, Any], trial: Trial, world: World, journal: Journal | None) -> dict[str, Any]:
    """Train a trial of either kind on what its job names; a failure that every attempt would repeat is recorded."""
    from transvae_platform.data.sets.mixture import open_training_data
    from transvae_platform.data.sets.remote import default_cache
    from transvae_platform.training import loop
    from transvae_platform.training.opening import open_generating
    from transvae_platform.training.shard_check import DamagedDataError, ShardCheck

    folder, own = Path(job["folder"]), job.get("generator") or {}
    try:
        cache, cache_bytes = default_cache(), job["cache_bytes"]
        samples = open_training_data(job["data"], cache, cache_bytes, None if own else trial.resolution)
        sets = {name: open_training_data(places, cache, cache_bytes)[1] for name, places in job["sets"].items()}
        read = (job["data"], *job["sets"].values(), own.get("images", []))
        check = ShardCheck([location for places in read for location, _ in places], world)
        if own:
            task = open_generating(trial, world, samples, **own)
            return loop.train(task, samples, folder, journal, job["lineage"], until=job["until"], check=check)
        return loop.train_vae(trial, samples, folder, journal, world, job["lineage"], sets, job["until"], check)
    except (loop.DivergedError, DamagedDataError) as error:  # no retry would end differently
        if journal:
            journal.append("failed", reason=str(error), diverged=isinstance(error, loop.DivergedError))
        return {"failed": str(error)}


def _notice() -> Notice | None:
    """What Ray knows of the trial's nodes: a collective that all workers must call equally often."""
    from transvae_platform.world import Notice

    # without Ray's watcher (a Ray inside this machine) there is nothing to ask
    watched = os.environ.get("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER") != "0"
    info = ray.train.get_preemption_info() if watched else None
    if info is None:
        return None
    deadline = None if info.deadline_ms is None else info.deadline_ms / 1000
    return Notice(tuple(info.preempted_node_ids), deadline)


def _reason(error: ray.train.TrainingFailedError) -> str:
    """Why a trial's workers were given up, in one line."""
    if failures := getattr(error, "worker_failures", None):
        return root_cause(failures)[1]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]  # of the controller: a whole traceback
    return lines[-1] if lines else type(error).__name__


def ended(folder: Path, since: int = 0, outcomes: Sequence[str] = (*WELL, "failed")) -> bool:
    """Whether a trial's journal ends with one of these outcomes that was not among its first `since` records."""
    records = read_journal(folder / "journal.jsonl")[since:]
    return bool(records) and records[-1]["event"] in outcomes
