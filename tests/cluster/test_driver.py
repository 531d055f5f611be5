"""What the driver of a trial tells Ray Tune, with Ray Train's part played by a function: no Ray process starts."""

import resource
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray.train
import ray.train.torch
from ray import tune
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from transvae_platform.cluster import schedule, worker
from transvae_platform.cluster.schedule import LOCAL_ENVIRONMENT
from transvae_platform.data.sets import mixture
from transvae_platform.study.grid import build_grid
from transvae_platform.study.journal import Journal, read_journal
from transvae_platform.study.lease import Fence, SupersededError
from transvae_platform.study.load import load_study
from transvae_platform.study.scheduling import Agenda, Work
from transvae_platform.study.trial import Trial
from transvae_platform.training import loop
from transvae_platform.world import Notice

STUDY = Path(__file__).parents[2] / "studies" / "quickstart.yaml"
CHANGES = ("grid.families={vit: [T]}", "recipe.overrides={}")


@pytest.fixture
def job(tmp_path):
    (trial,) = build_grid(load_study(STUDY, CHANGES), "fingerprint")
    lock = tmp_path / "lock"
    lock.write_text("1 token")
    return {
        "trial": trial.model_dump(mode="json"), "folder": str(tmp_path / "trial"), "home": str(tmp_path),
        "ray_storage": str(tmp_path / "ray"), "fence": {"lock": str(lock), "token": "token"}, "lineage": {},
        "until": None, "charged": 0, "one_node": False, "accelerator": None,
    }  # fmt: skip


@pytest.fixture
def names():
    """Those of the runs of Ray Train."""
    return []


@pytest.fixture
def drive(job, monkeypatch, names):
    """Run the driver with `fit` in place of Ray Train's; returns what Tune was told."""

    def run(fit, retries=2):
        told = []

        def trainer(*_, scaling_config, run_config, **others):
            failures = run_config.failure_config
            assert (failures.max_failures, failures.max_preemption_failures) == (retries, -1)
            assert scaling_config.num_workers == 1
            names.append(run_config.name)
            return SimpleNamespace(fit=fit)

        monkeypatch.setattr(tune, "report", told.append)
        monkeypatch.setattr(ray.train.torch, "TorchTrainer", trainer)
        worker.drive_trial({"job": job})
        return told

    return run


@pytest.fixture
def journal(job, tmp_path):
    return Journal(tmp_path / "trial" / "journal.jsonl")


@pytest.mark.parametrize(("one_node", "strategy"), [(True, "STRICT_PACK"), (False, "PACK")])
def test_a_trial_that_fits_into_one_node_never_spans_two(job, one_node, strategy):
    trainer = worker._trainer({**job, "one_node": one_node}, Trial.model_validate(job["trial"]), 0)
    assert trainer.scaling_config.placement_strategy == strategy


@pytest.mark.parametrize("kind", [None, "H100"])
def test_workers_ask_for_the_kind_of_gpu_that_the_study_names(job, kind):
    gpus = Trial.model_validate(job["trial"] | {"workers": {"workers": 2, "device": "gpu"}})
    config = worker._trainer({**job, "accelerator": kind}, gpus, 0).scaling_config
    expected = {"GPU": 1} if kind is None else {"GPU": 1, "accelerator_type:H100": 0.001}
    assert {key: value for key, value in config._resources_per_worker_not_none.items() if value} == expected
    held = schedule._slots(gpus, kind)
    assert held == ({"gpu_slots": 2} if kind is None else {"gpu_slots": 2, "gpu_slots_H100": 2})


def ended(**values):
    return SimpleNamespace(return_value=values)


def test_tune_hears_each_validation_of_this_submission(drive, journal):
    journal.append("validated", step=100, metrics={"val/psnr": 9.0})  # of a submission before

    def fit():
        journal.append("step", step=150, metrics={"train/loss": 1.0})
        journal.append("validated", step=200, metrics={"val/psnr": 15.0})
        journal.append("validated", step=400, metrics={"val/psnr": 18.0})
        return ended(**{"val/psnr": 18.0})

    assert drive(fit) == [{"val/psnr": 15.0, "step": 200}, {"val/psnr": 18.0, "step": 400}]


def test_a_trial_that_was_at_its_end_has_nothing_to_tell(drive):
    assert drive(lambda: ended(**{"val/psnr": 18.0})) == []


def test_a_loop_that_gave_up_is_not_tried_again_by_tune(drive):
    assert drive(lambda: ended(failed="the training loss is not finite by step 10")) == []


def test_a_driver_that_died_is_followed_by_one_with_the_retries_that_are_left(drive, journal, names, tmp_path):
    def killed():
        raise KeyboardInterrupt

    journal.append("started")
    with pytest.raises(KeyboardInterrupt):
        drive(killed, retries=1)
    journal.append("preempted")  # costs no retry
    journal.append("started")
    with pytest.raises(KeyboardInterrupt):
        drive(killed, retries=1)
    journal.append("started")
    drive(lambda: ended(), retries=0)
    assert len(set(names)) == 3, "Ray starts from nothing"
    journal.append("started")
    drive(lambda: pytest.fail("once too often"))
    assert read_journal(tmp_path / "trial" / "journal.jsonl")[-1]["reason"].startswith("its processes died 3 times")


def test_a_driver_whose_submission_is_over_does_nothing(drive, names, tmp_path):
    (tmp_path / "lock").write_text("1 another")
    drive(lambda: pytest.fail("superseded"))
    assert names == []


@pytest.mark.parametrize(("deadline_ms", "deadline"), [(1500, 1.5), (None, None)])
def test_workers_hear_of_their_nodes(monkeypatch, deadline_ms, deadline):
    monkeypatch.delenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", raising=False)
    told = iter([None, ray.train.PreemptionInfo(deadline_ms, {"b": [1], "a": [0]})])
    monkeypatch.setattr(ray.train, "get_preemption_info", lambda: next(told))
    assert worker._notice() is None
    assert worker._notice() == Notice(("a", "b"), deadline)


def test_a_ray_that_nobody_drains_is_not_asked(monkeypatch):
    for name, value in LOCAL_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ray.train, "get_preemption_info", lambda: pytest.fail("asked"))
    assert worker._notice() is None


def test_a_dead_process_is_the_reason_and_not_what_others_say_of_it(drive, tmp_path):
    dead = WorkerHealthCheckFailedError("A worker health check failed.", ray.exceptions.ActorDiedError())
    others = RuntimeError("Traceback ...\nConnection closed by peer")

    def fit():
        raise ray.train.WorkerGroupError("ranks 0 and 1 failed", {0: others, 1: dead})

    drive(fit)
    (record,) = read_journal(tmp_path / "trial" / "journal.jsonl")
    assert record["reason"].startswith("the process of training worker 1 died: killed, out of memory, or crashed (more")


def test_workers_that_died_for_good_leave_their_reason_in_the_journal(drive, job, tmp_path):
    failure = ray.train.WorkerGroupError("rank 0 failed", {0: OSError("disk full\nand more")})

    def fit():
        raise failure

    drive(fit)
    (record,) = read_journal(tmp_path / "trial" / "journal.jsonl")
    assert record["event"] == "failed"
    assert record["reason"].startswith("OSError: disk full (more in ")
    assert worker.ended(tmp_path / "trial")
    assert "rank 0 failed" in (tmp_path / "trial" / "failure.txt").read_text()


@pytest.fixture
def attempt(job, monkeypatch):
    """Run a worker as rank 0 of a new attempt, with this in place of the training loop."""

    def run(train):
        context = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
        monkeypatch.setattr(ray.train, "get_context", lambda: context)
        monkeypatch.setattr(ray.train.torch, "get_device", lambda: "cpu")
        monkeypatch.setattr(mixture, "open_training_data", lambda *_: None)
        monkeypatch.setattr(loop, "train_vae", train)
        return worker.train_worker({**job, "data": [], "sets": {}, "cache_bytes": 0})

    return run


def test_a_worker_of_an_earlier_attempt_writes_nothing_more(attempt, drive, tmp_path):
    def stalled(trial, samples, folder, journal, *_):
        journal.append("started")
        attempt(lambda trial, samples, folder, journal, *_: journal.append("started"))
        with pytest.raises(SupersededError, match="a later attempt"):
            journal.append("step", step=1)
        drive(lambda: (_ for _ in ()).throw(ray.train.WorkerGroupError("gone", {0: RuntimeError("gone")})), retries=0)

    attempt(stalled)
    assert [record["event"] for record in read_journal(tmp_path / "trial" / "journal.jsonl")] == [
        "started", "started", "failed"
    ]  # fmt: skip


def test_a_worker_whose_disk_is_full_trains_on(attempt, tmp_path):
    def full(trial, samples, folder, journal, *_):
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
        journal.append("step", step=1)
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    attempt(full)
    assert [record["step"] for record in read_journal(tmp_path / "trial" / "journal.jsonl")] == [1]


def test_a_driver_that_dies_in_a_later_round_leaves_its_reason(job, journal, tmp_path, monkeypatch):
    trial = Trial.model_validate(job["trial"])
    own = Journal(tmp_path / "trials" / trial.id / "journal.jsonl")
    for event in ("started", "paused"):  # the round before
        own.append(event)
    died = SimpleNamespace(error=RuntimeError("the actor died"))

    def tuner(_, tune_config, **others):
        died.config = tune_config.search_alg.suggest("first")
        assert tune_config.search_alg.suggest("second") is None
        tune_config.search_alg.on_trial_complete("first")
        return SimpleNamespace(fit=lambda: [died])

    monkeypatch.setattr(tune, "Tuner", tuner)
    monkeypatch.setattr(schedule, "_most_together", lambda: 8)
    fence = Fence(tmp_path / "lock", "token")
    agenda = Agenda((Work(trial.id, 1, 60.0, "cpu"),), {"cpu": 1})
    assert schedule.run_trials([trial], agenda, tmp_path, fence, {}, lambda _: {}) == []
    assert read_journal(own._path)[-1]["reason"].startswith("the actor died (more in")
