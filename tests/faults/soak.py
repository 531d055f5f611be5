"""A small study under random kills: the same command again and again, until the study has ended.

What is killed, drawn from a seed: a training worker; the submitting process (its Ray is left to notice); the MLflow
server, which comes back later; everything that the submission started, at once; all workers of the trials that run,
once they have heeded a notice that their nodes go away. Most fall among the steps of trials, some into starts.
Real trials, real Ray, a real server; half of the trials on two workers. The loss of the ViT trials breaks for some
steps, also in the twin: the guard takes them back in any case.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from mlflow.tracking import MlflowClient
from tests.faults.intrusion import intruded
from tests.faults.mlflow_server import Mlflow, wait_for
from torch import Tensor

from transvae_platform.study.journal import JournalReader
from transvae_platform.study.state import StudyState
from transvae_platform.tracking import points
from transvae_platform.training.checkpoint import CheckpointStore
from transvae_platform.training.manifest import sha256_of
from transvae_platform.training.tensors import read_tensors

STEPS, EVERY = 300, 50
SPEC: dict[str, Any] = {
    "study": "soak",
    "question": "Does it survive?",
    "expected": {"outcome": "It does.", "source": "assumption"},
    "grid": {"ladder": "micro", "code": "f8d8", "families": {"transvae": ["T"], "vit": ["T"]}, "seeds": [0, 1]},
    "data": {"source": "bundled", "resolution": 32, "view": {"kind": "crops", "per_photograph": 32}},
    "recipe": {"steps": STEPS, "batch_size": 8, "learning_rate": 1e-3, "warmup_steps": 20, "schedule": "cosine"},
    "evaluation": {"every": EVERY, "log_every": 1, "images": 16, "pictures": 2},
    "resources": {"overrides": {"vit-*": {"workers": 2}}},
}
UNDER_KILLS = {"max_failures": 1000}
"""Kills of workers are charged to a trial; no number of them shall end one. Not for the twin, which nobody kills."""
KINDS = ("worker", "submission", "server", "group", "notice")
EARLY = 0.25
"""Share of the kills that do not wait for a step: they fall into starts."""
AWAY_SECONDS = 20.0  # how long the server stays away at most
CALM_SECONDS = 1800.0  # for an undisturbed study on busy cores; ends a hang, judges no speed
AGAIN = {0, 4, -signal.SIGKILL}
"""Exit codes after which the command is typed again: done, the server did not answer, killed."""
MARK = "TRANSVAE_SOAK"
BROKEN = range(121, 127)
"""Steps of the ViT trials whose loss is no number until they were taken back: more than the guard's patience."""
INTRUSION = f"""\
import os, signal, time
from pathlib import Path

def intrude(loop):
    from transvae_platform.training.criterion import Criterion

    step, forward, state, began = loop.train_step, Criterion.generator, {{}}, time.time()

    def train_step(weights, *rest):
        fresh = weights.guard.rewinds == 0 and weights.trial.family == "vit"
        state["bad"] = fresh and weights.step + 1 in {BROKEN!r}
        return step(weights, *rest)

    def poisoned(self, *arguments):
        total, judged, terms = forward(self, *arguments)
        factor = float("nan") if state["bad"] else 1.0
        return total * factor, judged * factor, terms

    def notice(world):
        import torch
        from transvae_platform.world import Notice
        path = Path(os.environ["{MARK}_NOTICE"])
        told = [path.exists() and path.stat().st_mtime > began]
        if world.size > 1:  # as with Ray, all workers hear the same
            torch.distributed.broadcast_object_list(told, src=0)
        return Notice(("node",), None) if told[0] else None

    class Notices(loop.Notices):
        def __init__(self, world):
            super().__init__(loop.World(world.rank, world.size, world.device, notice=lambda: notice(world)))

    loop.train_step, Criterion.generator = train_step, poisoned
    loop.Notices, loop.hold = Notices, lambda _: os.kill(os.getpid(), signal.SIGKILL)
"""
"""A notice is a file that is newer than the worker; after the checkpoint its nodes go."""


@dataclass
class Home:
    """A home with the study of `SPEC`, and the command that runs it."""

    folder: Path
    tracking: str | None = None
    resources: dict[str, Any] = field(default_factory=dict)
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def study(self) -> Path:
        return self.folder / "runs" / "studies" / "soak"

    @property
    def notice(self) -> Path:
        return self.folder / "notice"

    def submit(self) -> subprocess.Popen[bytes]:
        """The command, the same every time; its processes are found again by a mark in their environment."""
        self.folder.mkdir(exist_ok=True)
        file = self.folder / "soak.yaml"
        file.write_text(yaml.safe_dump({**SPEC, "resources": {**SPEC["resources"], **self.resources}}))
        environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
        environment |= {MARK: self.token, **({"MLFLOW_TRACKING_URI": self.tracking} if self.tracking else {})}
        environment[f"{MARK}_NOTICE"] = str(self.notice)
        environment = intruded(self.folder / "first", "transvae_platform.training.loop", INTRUSION, environment)
        command = [sys.executable, "-m", "transvae_platform", "study", "submit", str(file)]
        with (self.folder / "said.txt").open("ab") as said:
            return subprocess.Popen(
                [*command, "--home", str(self.folder / "runs")],
                env=environment, stdout=said, stderr=said, start_new_session=True,
            )  # fmt: skip

    @property
    def said(self) -> str:
        return (self.folder / "said.txt").read_text()[-4000:]

    def processes(self, title: str = "") -> list[int]:
        """Everything that submissions of this home have started and that lives, or what of it has such a title."""
        mark, found = f"{MARK}={self.token}".encode(), []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended, or is another user's
                ours = mark in (process / "environ").read_bytes().split(b"\0")
                if ours and (process / "cmdline").read_text().startswith(title):
                    found.append(int(process.name))
        return found

    def kill_all(self) -> None:
        """Until nothing is left, for a process may have begun another one meanwhile."""
        while living := self.processes():
            for pid in living:
                _kill(pid)
            time.sleep(0.2)


def undisturbed(folder: Path) -> tuple[Home, float]:
    """The twin: the study in a home of its own, in one go; and the seconds from the command to its first step."""
    home, began = Home(folder), time.time()
    code = home.submit().wait(CALM_SECONDS)
    assert code == 0, home.said
    first = min(record["at"] for trial in StudyState(home.study).trials.values() for record in trial.train.values())
    return home, first - began


@dataclass
class Strike:
    """A kill that is to come."""

    kind: str
    at: float
    """Not before this moment (monotonic)."""
    steps: int = 0
    """Not before the trials have recorded so many more steps."""


class Round:
    """One study under kills until `end` (monotonic), and then in peace to its own end.

    `pause` is the mean of the seconds before a kill that waits for no step.
    """

    def __init__(self, folder: Path, chance: random.Random, pause: float, end: float) -> None:
        folder.mkdir()
        self.server = Mlflow(folder).start()
        self.home = Home(folder, self.server.uri, UNDER_KILLS)
        self.kills: Counter[str] = Counter()
        self.submissions = 0
        self._chance, self._pause, self._end = chance, pause, end
        self._bag: list[str] = []
        """Kinds that are still to come before each comes again: short soaks deal every kind, too."""
        self._readers: dict[Path, JournalReader] = {}
        self._back: float | None = None
        """When the server is started again, while it is away."""

    def run(self) -> None:
        try:
            wait_for(self.server.answers)
            self._until_done()
        finally:
            self.home.kill_all()
            self.server.kill()

    def _until_done(self) -> None:
        process, strike = self._submit(), self._next()
        hang = self._end + CALM_SECONDS
        while True:
            now = time.monotonic()
            assert now < hang, self.home.said
            if self._back is not None and now >= min(self._back, self._end):
                self.server.start()
                self._back = None
            if (code := process.poll()) is not None:
                assert code in AGAIN, f"exit code {code}: {self.home.said}"
                if code == 0:  # it may have ended while the server was away: what it says is judged by the caller
                    return
                time.sleep(self._chance.uniform(0, 3))
                process, strike.at = self._submit(), max(strike.at, time.monotonic() + 1)
            strike.steps -= self._steps()
            if strike.at <= now < self._end and strike.steps <= 0 and self._strike(process, strike.kind):
                strike = self._next()
            time.sleep(0.05)

    def _submit(self) -> subprocess.Popen[bytes]:
        self.submissions += 1
        return self.home.submit()

    def _next(self) -> Strike:
        """When the next kill is, and of what."""
        self._bag = self._bag or self._chance.sample(KINDS, len(KINDS))
        kind = self._bag.pop()
        if self._chance.random() < EARLY:
            return Strike(kind, time.monotonic() + self._chance.expovariate(1 / self._pause))
        return Strike(kind, time.monotonic(), self._chance.randint(1, STEPS))

    def _steps(self) -> int:
        """Steps that the trials have recorded since the last call."""
        for path in self.home.study.glob("trials/*/journal.jsonl"):
            self._readers.setdefault(path, JournalReader(path))
        return sum(record["event"] == "step" for reader in self._readers.values() for record in reader.new())

    def _strike(self, submission: subprocess.Popen[bytes], kind: str) -> bool:
        """Kill one of a kind; False where none is there yet: a worker is waited for until it trains."""
        if kind in ("worker", "notice"):
            workers = sorted(self.home.processes("ray::RayTrainWorker"))
            if not workers:
                return False
            if kind == "worker":
                _kill(self._chance.choice(workers))
            else:
                self.home.notice.touch()
        elif kind == "submission":
            submission.kill()
        elif kind == "group":
            self.home.kill_all()
        elif self._back is not None:
            return False
        else:
            self.server.kill()
            self._back = time.monotonic() + self._chance.uniform(0, AWAY_SECONDS)
        self.kills[kind] += 1
        return True

    def finish(self) -> None:
        """The same command once more, with the server there: a study that has ended runs nothing again."""
        self.server.start()
        try:
            wait_for(self.server.answers)
            assert self.home.submit().wait(CALM_SECONDS) == 0, self.home.said
            self.held = _points_in_mlflow(self.server.uri)
        finally:
            self.server.kill()


def results(home: Home) -> dict[str, Any]:
    """What a study ended with, by trial: everything that must not depend on what happened on the way."""
    found = {}
    for identity, trial in StudyState(home.study).trials.items():
        assert trial.state == "finished", f"{identity}: {trial.state}, {trial.reason}"
        with CheckpointStore(trial.folder / "checkpoints", keep=9).newest_good() as good:
            assert good is not None
            step, folder = good
            state = json.loads((folder / "state.json").read_text())
            # not of the files: safetensors writes the entries of a header in an order of chance
            tensors = {key: _sha256(tensor) for key, tensor in read_tensors(folder / "state").items()}
            average = sha256_of(folder / "ema" / "model.safetensors")
        found[identity] = {
            "step": step,
            "weights, optimiser, guard": tensors,
            "their numbers": state["parts"],
            "average": average,
            "best": state["best"],
            "training": {step: record["metrics"] for step, record in trial.train.items()},
            "validation": {step: record["metrics"] for step, record in trial.validation.items()},
            "picture_psnr": trial.picture_psnr,
            "registered": (trial.registered or {}).get("sha256"),
        }
    return found


def points_in_journals(home: Home) -> dict[str, dict[points.Point, float]]:
    """Every point of every trial that MLflow has to hold."""
    trials = StudyState(home.study).trials
    return {
        identity: {point: metric.value for point, metric in points.wanted(points.records_of(trial)).items()}
        for identity, trial in trials.items()
    }


def _points_in_mlflow(uri: str) -> dict[str, list[tuple[points.Point, float]]]:
    """Every point of every run by its trial, as a list, so that repeats show."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("soak")
    held: dict[str, list[tuple[points.Point, float]]] = {}
    for run in client.search_runs([experiment.experiment_id], "tags.kind = 'trial'"):
        assert run.info.status == "FINISHED"
        histories = [(key, client.get_metric_history(run.info.run_id, key)) for key in run.data.metrics]
        told = [((key, point.step), point.value) for key, history in histories for point in history]
        held.setdefault(run.data.tags["trial_id"], []).extend(told)
    return held


def _sha256(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):  # it has ended
        os.kill(pid, signal.SIGKILL)
