"""One SQLite store for all tests (making its tables takes seconds), and studies written as journals."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from transvae import create_model
from transvae_platform.study.costs import model_cost
from transvae_platform.study.grid import build_grid
from transvae_platform.study.journal import Journal
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.state import StudyState
from transvae_platform.study.trial import Trial
from transvae_platform.tracking.server import Server
from transvae_platform.training.checkpoint import open_checkpoints
from transvae_platform.training.ranks import Ranks
from transvae_platform.training.saver import save_checkpoint

LINEAGE = {
    "code": "0.1.0+gaaaa", "commit": "a" * 40, "difference": "none", "environment": "e" * 64, "python": "3.11.9",
    "host": "bench",
}  # fmt: skip
NUMBERS = itertools.count()


@dataclass
class Averaged:
    """A checkpoint of nothing but averaged weights and their lineage."""

    step: int
    model: Any
    lineage: dict[str, str]
    trial: str

    def write(self, folder: Path, ranks: Ranks) -> None:
        self.write_result(folder)

    def write_result(self, folder: Path) -> None:
        self.model.save_pretrained(folder / "ema")
        (folder / "state.json").write_text(
            json.dumps({"step": self.step, "trial": self.trial, "lineage": self.lineage})
        )


class Study:
    """A study of one model, two seeds, whose journals the test writes."""

    def __init__(self, home: Path, name: str, checkpoints: str | None = None, **changes: Any) -> None:
        """`changes` replace sections of the specification."""
        self.home = home
        self.lineage: dict[str, str] = dict(LINEAGE)
        self.now = 1_790_000_000.0
        self.spec = StudySpec.model_validate(
            {
                "study": name,
                "question": "Is it tracked?",
                "expected": {"outcome": "It is.", "source": "assumption"},
                "grid": {"ladder": "micro", "code": "f8d8", "families": {"vit": ["T"]}, "seeds": [0, 1]},
                "data": {"source": "bundled", "resolution": 32},
                "recipe": {"steps": 40, "batch_size": 8, "learning_rate": 1e-3, "warmup_steps": 4},
                "evaluation": {"every": 20},
                "resources": {"checkpoints": checkpoints},
                **changes,
            }
        )
        self.folder = home / "studies" / name
        (self.folder / "lineage").mkdir(parents=True)
        (self.folder / "lineage" / f"{LINEAGE['environment']}.txt").write_text("torch==2.13.0\n")
        self.trials = build_grid(self.spec, "d" * 16)
        self.journal = Journal(self.folder / "journal.jsonl", clock=self.clock, steady=lambda: self.now)
        self.journal.append(
            "submitted",
            spec=self.spec.model_dump(mode="json"),
            lineage=LINEAGE,
            tracking="http://known:5000",
            cluster="local",
        )
        self.own = {}
        for trial in self.trials:
            self.journal.append("queued", trial=trial.model_dump(mode="json"), cost=model_cost(trial))
            self.own[trial.id] = Journal(
                self.folder / "trials" / trial.id / "journal.jsonl", clock=self.clock, steady=lambda: self.now
            )

    def clock(self) -> float:
        self.now += 1
        return self.now

    def state(self) -> StudyState:
        return StudyState(self.folder)

    def start(self, trial: Trial, resumed_from: int = 0, device: str = "cpu") -> None:
        fields: dict[str, Any] = {"resumed_from": resumed_from, "world": 1, "device": device, "attention": "sdpa"}
        fields["lineage"] = self.lineage
        self.own[trial.id].append("started", step=resumed_from, **fields)

    def step(self, trial: Trial, step: int, **metrics: float) -> None:
        values = metrics or {"loss": 1 / step}
        self.own[trial.id].append(
            "step", step=step, images=8 * step, flops=100.0 * step, metrics={f"train/{k}": v for k, v in values.items()}
        )

    def validate(
        self, trial: Trial, step: int, psnr: float, best: int | None = None, seed: int = 0, spoil: float = 0
    ) -> None:
        """What the loop leaves at a validated step: records, a picture, a checkpoint with a model."""
        torch.manual_seed(seed)
        model = create_model(trial.model)
        if spoil:
            next(model.parameters()).data.view(-1)[3] = spoil
        self.keep(trial, step, {"val/psnr": psnr, "val/l1": 1 / psnr}, model, best)

    def keep(self, trial: Trial, step: int, metrics: dict[str, float], model: Any, best: int | None = None) -> None:
        """The same for a model of any kind; its `val/psnr` stands under the picture."""
        folder, journal = self.folder / "trials" / trial.id, self.own[trial.id]
        journal.append("validated", step=step, images=8 * step, flops=100.0 * step, metrics=metrics)
        picture = folder / "pictures" / f"step_{step}.png"
        picture.parent.mkdir(exist_ok=True)
        picture.write_bytes(b"PNG")
        journal.append("pictures", step=step, path=f"pictures/{picture.name}", psnr=[metrics.get("val/psnr", 0.0)])
        sha256 = save_checkpoint(
            open_checkpoints(trial, folder), Averaged(step, model, self.lineage, trial.id), Ranks()
        )
        journal.append("checkpoint", step=step, sha256=sha256, best_step=best or step)

    def finish(self, trial: Trial) -> None:
        self.own[trial.id].append("finished", step=40, metrics={})

    def train(self, trial: Trial, psnr: float, seed: int = 0, spoil: float = 0) -> None:
        """The whole trial, best at its last step."""
        self.start(trial)
        for step in (10, 20, 30):
            self.step(trial, step)
        self.step(trial, 40)
        self.validate(trial, 40, psnr, seed=seed, spoil=spoil)
        self.finish(trial)


@pytest.fixture(scope="session")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def uri(home) -> str:
    return f"sqlite:///{home / 'mlflow.db'}"


@pytest.fixture(scope="session")
def server(home, uri) -> Server:
    return Server(uri, home)


@pytest.fixture(scope="session")
def client(server):
    return server.client()


@pytest.fixture
def study(home) -> Study:
    return Study(home, f"tracked{next(NUMBERS)}")


@pytest.fixture
def points(client) -> Callable[..., dict[str, list[tuple[int, float]]]]:
    """Every point of every metric of a run, as (step, value) in order of steps."""

    def read(run_id: str) -> dict[str, list[tuple[int, float]]]:
        keys = client.get_run(run_id).data.metrics
        return {
            key: sorted((point.step, point.value) for point in client.get_metric_history(run_id, key)) for key in keys
        }

    return read
