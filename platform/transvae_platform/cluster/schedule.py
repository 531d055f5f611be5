"""Ray Tune schedules the trials of a study on whatever Ray runs on: this machine, or a cluster.

Trials of unequal size share a cluster through slots: the head declares `gpu_slots` (and `cpu_slots`) equal to what the
cluster can have, a trial holds one per worker while it runs, and Tune starts no trial whose slots are not free. So no
trial ever holds devices while it waits for more. Which of those that fit comes next, `study/scheduling.py` says.
Drivers ask for nothing but slots and a sliver of `head`, a resource that only the head has, so they neither take a
worker's CPU nor sit on a node that can be preempted.

A trial that fits into the largest node (`node_gpus` of the head) gets all its workers on one; where its slots are free
but spread over nodes, it waits for one to empty, or for the autoscaler's next. Larger trials span as few as they can.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune

from transvae_platform.cluster.devices import local_devices
from transvae_platform.cluster.failures import charged, record_failure
from transvae_platform.cluster.queue import Errand, StudyQueue
from transvae_platform.cluster.worker import WELL, drive_trial, ended
from transvae_platform.errors import SpecError, UnreachableError
from transvae_platform.study.journal import read_journal
from transvae_platform.study.lease import Fence
from transvae_platform.study.scheduling import Agenda
from transvae_platform.study.stopping import asked_to_stop
from transvae_platform.study.trial import Trial

SLOTS = {"cpu": "cpu_slots", "gpu": "gpu_slots"}
NODE_GPUS = "node_gpus"  # of the head: how many GPUs the largest node has
GPU_MEMORY = "gpu_memory"  # of the head: the memory of one GPU in GB (10^9 bytes), of the smallest kind
STARTS = 2  # attempts to start Ray inside this machine (assumption)
ADDRESS_SECONDS = 10.0  # for a cluster to take a connection (assumption)
DRIVER_HEAD_SHARE = 0.001  # the head declares 1: a thousand drivers, more than any grid

# For this process and every Ray process. Ray Train polls its workers every 2 s by default, and a report or the end of a
# trial waits for a poll; every 0.2 s costs up to a tenth of a core per trial (rough estimate), 0.5 s lies between.
RAY_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "2",  # of 5 s: a cloud's notice may leave 30 s; one small call per trial
    "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0: nothing of Tune's own, the command line has its view
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",  # not one at a time: the queue gives no more than have slots
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the study here and now; the journal knows where it was
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
}

# For a Ray inside this machine.
LOCAL_ENVIRONMENT = {
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # nobody drains it: one process less per trial
    "RAY_worker_maximum_startup_concurrency": "16",  # a trial is 5 processes: Ray warns of more than 4 per core
}


@contextmanager
def ray_session(address: str | None) -> Iterator[None]:
    """Ray for one study: the cluster at `address` (`auto` on a cluster's head), or one inside this machine.

    Raises:
        UnreachableError: no cluster answers, or it does not declare the slots that trials need.
    """
    os.environ.update(RAY_ENVIRONMENT)
    for library in ("ray.tune", "ray.train", "ray.data"):
        logging.getLogger(library).setLevel(logging.ERROR)  # what matters stands in the journals
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        cpus, gpus = local_devices()
        # inherited by every process; as a `runtime_env` it would start each of them twice
        os.environ.update(LOCAL_ENVIRONMENT)
        resources = {"head": 1, SLOTS["cpu"]: cpus, **({SLOTS["gpu"]: gpus, NODE_GPUS: gpus} if gpus else {})}
        _start_here(num_cpus=cpus, num_gpus=gpus, resources=resources, include_dashboard=False, **quiet)
    else:
        _refuse_silent_address(address)
        try:
            ray.init(address, runtime_env={"env_vars": RAY_ENVIRONMENT}, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UnreachableError(f"no Ray cluster answers at {address}: {error}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _start_here(**options: Any) -> None:
    """Ray inside this machine; once more if it was too slow, for its own limit of 30 s is short on a busy one."""
    for attempt in range(STARTS):
        try:
            ray.init("local", **options)  # "local": never attach to some other Ray of this machine
            return
        except Exception as error:  # noqa: BLE001 - that is what Ray raises
            ray.shutdown()
            if attempt == STARTS - 1:
                reason = str(error).strip().splitlines()[0]
                raise UnreachableError(
                    f"Ray does not start on this machine ({reason}) - is it busy, or out of memory? The same command "
                    "tries again"
                ) from None


def _refuse_silent_address(address: str) -> None:
    """Ray itself would try for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():  # `auto`, or what Ray shall judge
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ADDRESS_SECONDS).close()
    except OSError as error:
        raise UnreachableError(
            f"RAY_ADDRESS: no Ray cluster answers at {address} ({error}) - start it, or unset RAY_ADDRESS to run on "
            "this machine"
        ) from None


def cluster_devices(accelerator: str | None = None) -> tuple[int, int]:
    """(CPU slots, GPU slots, of one kind if asked) that the connected cluster declares, autoscaled nodes included.

    Raises:
        SpecError: it declares no GPUs of this kind.
        UnreachableError: it declares no head resource, so it was not started from a cluster file of this project.
    """
    resources = ray.cluster_resources()
    if "head" not in resources:
        raise UnreachableError(
            "the Ray cluster declares no resource `head` - start it with `ray up cluster.yaml`, or add "
            '`--resources=\'{"head": 1, "cpu_slots": N, "gpu_slots": M}\'` to its `ray start --head`'
        )
    if accelerator is not None and _of_kind(accelerator) not in resources:
        kinds = sorted(name.removeprefix(_of_kind("")) for name in resources if name.startswith(_of_kind("")))
        raise SpecError(
            f"resources.accelerator: no node type of the cluster has {accelerator} - its head declares "
            f"{', '.join(kinds) or 'no kind'}; choose one of these, or leave it out for any"
        )
    gpus = SLOTS["gpu"] if accelerator is None else _of_kind(accelerator)
    return int(resources.get(SLOTS["cpu"], 0)), int(resources.get(gpus, 0))


def _of_kind(accelerator: str) -> str:
    """The slots of one kind of GPU, of which the head declares those of all its nodes, beside those of any kind."""
    return f"{SLOTS['gpu']}_{accelerator}"


def cluster_gpu_bytes() -> float | None:
    """Memory of a GPU that the connected cluster declares; None where it does not."""
    declared = ray.cluster_resources().get(GPU_MEMORY)
    return None if declared is None else declared * 1e9


def run_trials(
    trials: Sequence[Trial],
    agenda: Agenda,
    study_folder: Path,
    fence: Fence,
    lineage: dict[str, Any],
    places: Callable[[Trial], dict[str, Any]],
    until: int | None = None,
    errands: Mapping[str, Errand] | None = None,
    lost: Callable[[Trial], None] = lambda trial: None,
    accelerator: str | None = None,
) -> list[str]:
    """Run trials to their end, or to the step `until`, each as one Tune trial; outcomes stand in the trials' journals.

    Must be called inside `ray_session`. `fence` is this submission's, from the study's lock; `places` says, when a
    trial starts, where its workers find what it is trained on. `errands` and `lost` as in `StudyQueue`; `accelerator`
    is the kind of GPU that they run on. Returns the ids of those that were never started (`StudyQueue.left_over`).
    """
    ray_storage = study_folder / "ray"
    together = _most_together()
    jobs: dict[str, dict[str, Any]] = {
        trial.id: {
            "trial": trial.model_dump(mode="json"),
            "folder": str(study_folder / "trials" / trial.id),
            "ray_storage": str(ray_storage),
            "one_node": trial.workers.device == "gpu" and trial.workers.workers <= together,
            "accelerator": accelerator if trial.workers.device == "gpu" else None,
            "fence": {"lock": str(fence.lock), "token": fence.token},
            "lineage": lineage,
            "until": until,
            "charged": charged(study_folder / "trials" / trial.id),
            "records": len(read_journal(study_folder / "trials" / trial.id / "journal.jsonl")),
        }
        for trial in trials
    }
    slots = {trial.id: _slots(trial, accelerator) for trial in trials}
    known = {trial.id: trial for trial in trials}
    queue = StudyQueue(
        agenda.only({*jobs, *(errands or {})}),
        lambda name: ended(Path(jobs[name]["folder"]), jobs[name]["records"], WELL),
        stopping=partial(asked_to_stop, fence),
        errands=errands,
        details=lambda name: {"places": places(known[name])},
        lost=lambda name: lost(known[name]),
    )
    trainable = tune.with_resources(
        lambda config: drive_trial({"job": {**jobs[config["trial"]], **config["places"]}}),
        lambda config: tune.PlacementGroupFactory([{"head": DRIVER_HEAD_SHARE, **slots[config["trial"]]}]),
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=queue,
            num_samples=len(jobs),
            trial_dirname_creator=_folder_name,
            trial_name_creator=_folder_name,
            # A driver's process, with all it has imported, drives one trial after the other; but only where all ask for
            # the same: handed from small trial to small trial, its slots would never be free for a larger one.
            reuse_actors=len({trial.workers for trial in trials}) == 1,
        ),
        run_config=tune.RunConfig(
            # Tune's own files are disposable, the journal says what is left to run: a new name per submission and round
            name=f"tune-{fence.token}-{until or 'end'}",
            storage_path=str(ray_storage),
            # of drivers that died; what workers and drivers may fail together, each driver counts (`drive_trial`)
            failure_config=tune.FailureConfig(max_failures=max(trial.max_failures for trial in trials)),
            verbose=0,
        ),
    )
    try:
        results = tuner.fit()
    finally:
        queue.close()
    for result in results:
        job = jobs[result.config["trial"]]
        if result.error is not None and not ended(
            Path(job["folder"]), job["records"]
        ):  # the driver itself died too often
            record_failure(job, str(result.error).strip().splitlines()[-1], str(result.error))
    shutil.rmtree(ray_storage, ignore_errors=True)  # Ray's own state: nothing reads it again
    return queue.left_over


def _slots(trial: Trial, accelerator: str | None) -> dict[str, int]:
    held = {SLOTS[trial.workers.device]: trial.workers.workers}
    return held | {_of_kind(accelerator): trial.workers.workers} if accelerator and SLOTS["gpu"] in held else held


def _most_together() -> int:
    """GPUs of the largest node that the cluster can have; 0 where the head does not say."""
    return int(ray.cluster_resources().get(NODE_GPUS, 0))


def _folder_name(trial: Any) -> str:
    return str(trial.config["trial"])
