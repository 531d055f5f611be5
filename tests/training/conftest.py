"""A small ViT, crops of real photographs, and runs of a few steps in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.poison import LIMITS, Poison

from transvae_platform.data.listing.bundled import list_bundled
from transvae_platform.data.making.ingest import ingest
from transvae_platform.data.making.work import run_locally
from transvae_platform.data.sets.catalogue import list_data_sets
from transvae_platform.data.sets.samples import SampleSet, open_data
from transvae_platform.study.grid import build_grid
from transvae_platform.study.journal import PATIENCE, Journal, read_journal
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.trial import Trial
from transvae_platform.training.loop import train_vae
from transvae_platform.world import World

SPEC: dict[str, Any] = {
    "study": "loop",
    "question": "Does it train?",
    "expected": {"outcome": "It does.", "source": "assumption"},
    "grid": {"ladder": "micro", "code": "f8d8", "families": {"vit": ["T"]}},
    "data": {
        "source": "bundled", "resolution": 32, "view": {"kind": "crops", "per_photograph": 8, "scales": [0.25]},
        "holdout": ["coffee", "rocket"],
    },
    "recipe": {"steps": 12, "batch_size": 8, "learning_rate": 2e-3, "warmup_steps": 2, "ema_decay": 0.9},
    "evaluation": {"every": 4, "log_every": 1, "images": 12, "pictures": 3},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def home(tmp_path_factory) -> Path:
    """A home with the data set of `SPEC`: crops of the bundled photographs."""
    home = tmp_path_factory.mktemp("home")
    data = StudySpec.model_validate(SPEC).data
    ingest(list_bundled(), data, home, run_locally)
    return home


@pytest.fixture(scope="session")
def samples(home) -> tuple[SampleSet, SampleSet]:
    (made,) = list_data_sets(home)
    return open_data(made.location, home, 10**9)


def make_trial(home: Path, **changes: Any) -> Trial:
    """The trial of `SPEC` with changes such as `recipe__steps=3`."""
    values = {key: dict(value) if isinstance(value, dict) else value for key, value in SPEC.items()}
    for path, value in changes.items():
        part, _, key = path.partition("__")
        values.setdefault(part, {})[key] = value
    (made,) = list_data_sets(home)
    return build_grid(StudySpec.model_validate(values), made.manifest.fingerprint)[0]


@pytest.fixture(scope="session")
def trial(home) -> Callable[..., Trial]:
    """`make_trial` with this home."""
    return partial(make_trial, home)


@pytest.fixture
def train(samples, tmp_path) -> Callable[..., dict[str, float]]:
    """Train a trial in `tmp_path/<name>` as its only process."""

    def run(trial: Trial, name: str = "run", world: World | None = None, until: int | None = None) -> dict[str, float]:
        journal = Journal(tmp_path / name / "journal.jsonl", patience=PATIENCE)
        try:
            return train_vae(trial, samples, tmp_path / name, journal, world or World(), {"code": "test"}, until=until)
        finally:
            journal.close()

    return run


@pytest.fixture
def records(tmp_path) -> Callable[..., list[dict[str, Any]]]:
    """The journal of a run, or only the records of one event."""

    def read(name: str = "run", event: str | None = None) -> list[dict[str, Any]]:
        found = read_journal(tmp_path / name / "journal.jsonl")
        return [record for record in found if event in (None, record["event"])]

    return read


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Poison:
    """Lets losses of this process's runs break."""
    return Poison(monkeypatch)


@pytest.fixture
def guarded(trial: Callable[..., Trial]) -> Callable[..., Trial]:
    """A trial of 16 steps that validates every 4 and has a short memory."""
    return lambda **changes: trial(recipe__steps=16, recipe__guard=LIMITS, **changes)
