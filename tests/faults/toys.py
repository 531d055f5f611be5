"""Studies submitted by real processes that can be killed; only the training itself, Ray and MLflow are played.

The processes are forked from this one, so that importing torch and Ray is paid once. A toy trial computes a chain of
SHA-256 sums, one per step: its result depends on every step having been done once and in order.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from transvae_platform.cli import running
from transvae_platform.cli.main import main
from transvae_platform.cluster import follow, planning, registering, submit
from transvae_platform.data.making import on_ray
from transvae_platform.data.making.work import run_locally
from transvae_platform.study import lease, plan
from transvae_platform.study.journal import Journal, read_journal
from transvae_platform.study.load import load_study
from transvae_platform.study.state import StudyState
from transvae_platform.study.stopping import asked_to_stop

STEPS, SAVE_EVERY = 40, 10
DEADLINE_SECONDS = 120  # ends a hang, judges no speed
SPEC = {
    "question": "Does it survive?",
    "expected": {"outcome": "It does.", "source": "assumption"},
    "grid": {"ladder": "micro", "code": "f8d8", "families": {"vit": ["T"]}, "seeds": [0, 1, 2, 3]},
    "data": {
        "source": "bundled", "resolution": 32, "view": {"kind": "crops", "per_photograph": 1}, "holdout": ["coffee"],
    },
    "recipe": {"steps": STEPS, "batch_size": 4, "learning_rate": 1e-3, "warmup_steps": 2},
    "evaluation": {"every": SAVE_EVERY},
}  # fmt: skip


def train_toys(
    trials: Any, agenda: Any, study_folder: Path, fence: Any, lineage: Any, places: Any, *rest: Any
) -> list[str]:
    """In place of `run_trials`: one trial after the other, each from its checkpoint to its end."""
    for trial in trials:
        folder = study_folder / "trials" / trial.id
        clock = lambda: time.time()  # noqa: E731 - looked up late: a test may set it wrong
        journal, checkpoint = Journal(folder / "journal.jsonl", fence, clock), folder / "toy.json"
        saved = json.loads(checkpoint.read_text()) if checkpoint.exists() else {"step": 0, "value": trial.id}
        step, value = saved["step"], saved["value"]
        journal.append(
            "started", step=step, resumed_from=step, world=1, device="cpu", attention="", lineage={"code": "toy"}
        )
        while step < STEPS:
            time.sleep(float(os.environ["TOY_STEP_SECONDS"]))
            if asked_to_stop(fence):
                checkpoint.write_text(json.dumps({"step": step, "value": value}))
                journal.append("paused", step=step)
                journal.close()
                return []
            step, value = step + 1, hashlib.sha256(value.encode()).hexdigest()
            journal.append(
                "step", step=step, images=step, flops=1.0, metrics={"train/loss": 1.0}, seconds_per_step=0.01
            )
            if step % SAVE_EVERY == 0:
                written = folder / "toy.new"
                written.write_text(json.dumps({"step": step, "value": value}))
                written.replace(checkpoint)
                journal.append("validated", step=step, images=step, flops=1.0, metrics={"val/psnr": 9.0})
                journal.append("checkpoint", step=step, sha256=value, best_step=step)
        if trial.seed in json.loads(os.environ["TOY_FAILS"]):
            journal.append("failed", reason="as it was told to")
        else:
            journal.append("finished", step=STEPS, metrics={})
        journal.close()
    return []


def expected(trial_id: str) -> str:
    """What a trial's last checkpoint holds if every step was done once, in order."""
    value = trial_id
    for _ in range(STEPS):
        value = hashlib.sha256(value.encode()).hexdigest()
    return value


class Tracker:
    """In place of the tracker: a server that has everything at once."""

    problem, experiment_id, client = None, "0", None

    def __init__(self, *_: Any) -> None: ...

    def take(self, news: Any) -> None: ...

    def send(self, *, now: bool = False) -> bool:
        return True

    def run_id(self, trial: Any) -> str:
        return "0"

    def log_study(self, files: Any) -> None: ...


@contextmanager
def no_ray(address: str | None) -> Iterator[None]:
    yield


@pytest.fixture
def _played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "reach", lambda *_: SimpleNamespace(silent=None))
    monkeypatch.setattr(registering, "answering", lambda _: nullcontext())
    monkeypatch.setattr(submit, "Tracker", Tracker)
    monkeypatch.setattr(running, "log_page", lambda *_: None)
    version = {"name": "toy", "version": 1, "uri": "models:/toy/1", "psnr": 9.0, "sha256": ""}
    monkeypatch.setattr(registering, "register_best", lambda *_: version)
    cost = {"parameters": 7.0, "forward_flops": 1.0, "training_flops": 3.0}  # counting takes a second per model
    for module in (submit, plan):
        monkeypatch.setattr(module, "model_cost", lambda _: cost)
    monkeypatch.setattr(submit, "ray_session", no_ray)
    monkeypatch.setattr(on_ray, "run_on_ray", run_locally)
    monkeypatch.setattr(submit, "run_trials", train_toys)
    for module in (planning, submit):
        monkeypatch.setattr(module, "local_devices", lambda: (2, 0))
    monkeypatch.setattr(running, "write_page", lambda state, output=None: state.folder / "report.html")
    outcome = lambda state, *_: print({trial.trial.id: trial.state for trial in state.trials.values()})  # noqa: E731
    monkeypatch.setattr(running, "print_outcome", outcome)
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(follow, "FOLLOW_SECONDS", 0.1)
    monkeypatch.setenv("TOY_STEP_SECONDS", "0.01")
    monkeypatch.setenv("TOY_FAILS", "[]")
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


class Submission:
    """`transvae study submit` in a process of its own, its output in files."""

    def __init__(self, file: Path, home: Path, changes: tuple[str, ...], prepare: Callable[[], None]) -> None:
        self._said = home / f"said-{time.monotonic_ns()}"
        self._arguments = ["transvae", "study", "submit", str(file), *changes, "--home", str(home)]
        self._prepare = prepare
        self.process = multiprocessing.get_context("fork").Process(target=self._run)
        self.process.start()

    def _run(self) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.stdout, sys.stderr = (self._said.with_suffix(end).open("w", buffering=1) for end in (".out", ".err"))
        sys.argv = self._arguments
        self._prepare()
        main()

    def send(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def end(self) -> int:
        """Wait for the end; the exit code."""
        self.process.join(DEADLINE_SECONDS)
        assert self.process.exitcode is not None, self.err
        return self.process.exitcode

    @property
    def out(self) -> str:
        return self._said.with_suffix(".out").read_text() if self._said.with_suffix(".out").exists() else ""

    @property
    def err(self) -> str:
        return self._said.with_suffix(".err").read_text() if self._said.with_suffix(".err").exists() else ""


class Study:
    """One study of four toy trials in a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir()
        self.file = home.parent / "toys.yaml"
        self.file.write_text(yaml.safe_dump({"study": "toys", **SPEC}))
        self.folder = home / "studies" / "toys"
        self._started: list[Submission] = []

    def submit(self, *changes: str, prepare: Callable[[], None] = lambda: None) -> Submission:
        self._started.append(Submission(self.file, self.home, changes, prepare))
        return self._started[-1]

    def end_all(self) -> None:
        for submission in self._started:
            submission.process.kill()
            submission.process.join()

    def events(self, event: str) -> dict[str, list[dict[str, Any]]]:
        """The records of one event by trial, of all trials with a journal."""
        journals = sorted(self.folder.glob("trials/*/journal.jsonl"))
        return {path.parent.name: [r for r in read_journal(path) if r["event"] == event] for path in journals}

    def executions(self) -> dict[str, int]:
        """How often each trial was started."""
        return {trial: len(records) for trial, records in self.events("started").items()}

    def wait_for(self, event: str, count: int = 1) -> None:
        """Until the trials' journals hold so many records of an event."""
        wait_until(lambda: sum(map(len, self.events(event).values())) >= count)

    def values(self) -> dict[str, str]:
        """What each trial's last checkpoint holds."""
        return {
            path.parent.name: json.loads(path.read_text())["value"] for path in self.folder.glob("trials/*/toy.json")
        }

    def state(self) -> StudyState:
        return StudyState(self.folder)


def wait_until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the data set of `SPEC` is made."""
    from transvae_platform.data.listing.bundled import list_bundled
    from transvae_platform.data.making.ingest import ingest

    home = tmp_path_factory.mktemp("made")
    file = home / "toys.yaml"
    file.write_text(yaml.safe_dump({"study": "toys", **SPEC}))
    ingest(list_bundled(), load_study(file).data, home, run_locally)
    return home / "data"


@pytest.fixture
def fresh(tmp_path: Path, _played: None) -> Iterator[Study]:
    """The study in a home that holds nothing."""
    study = Study(tmp_path / "home")
    yield study
    study.end_all()


@pytest.fixture
def study(fresh: Study, made: Path) -> Study:
    """The study in a home that has the data set."""
    (fresh.home / "data").symlink_to(made)
    return fresh
