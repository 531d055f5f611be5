"""What the benchmarks of micro models share: a model of the quick start ready to train, the form of a result."""

import datetime
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from transvae_platform.data.listing.bundled import list_bundled
from transvae_platform.data.making.ingest import ingest
from transvae_platform.data.making.work import run_locally
from transvae_platform.data.sets.catalogue import at_home
from transvae_platform.data.sets.mixture import Samples
from transvae_platform.data.sets.samples import open_data
from transvae_platform.data.stream.batches import TrainStream
from transvae_platform.study.grid import build_grid
from transvae_platform.study.load import load_study
from transvae_platform.study.trial import Trial
from transvae_platform.training.autoencoding import Autoencoding
from transvae_platform.training.step import train_step
from transvae_platform.training.weights import TrialWeights
from transvae_platform.world import World

STUDY = Path(__file__).parents[1] / "studies" / "quickstart.yaml"
MODELS = ("vit-T", "transvae-T", "transvae-G")  # the fastest steps of the quick start, and the slowest


@dataclass
class Ready:
    """A trial of the quick start before its first step, on one core as in a study."""

    trial: Trial
    train: Samples
    weights: TrialWeights
    stream: TrainStream

    def step(self, stream: object | None = None) -> None:
        """One training step, on this stream's batch or on another one's."""
        train_step(self.weights, stream or self.stream, World())


def ready(model: str, home: Path) -> Ready:
    """The trial of a model such as `vit-T`, with the quick start's recipe and data."""
    torch.set_num_threads(1)
    family, _, size = model.partition("-")
    spec = load_study(STUDY, (f"grid.families={{{family}: [{size}]}}", "recipe.overrides={}"))
    made = at_home(home, ingest(list_bundled(), spec.data, home, run_locally))
    (trial,) = build_grid(spec, made.manifest.fingerprint)
    train, _ = open_data(made.location, home, spec.data.cache_bytes)
    weights = TrialWeights(Autoencoding(trial, World()))
    return Ready(
        trial,
        train,
        weights,
        TrainStream(train, trial.sampling, batch_size=trial.recipe.batch_size, seed=0),
    )


def numbers(**defaults: int) -> dict[str, int]:
    """Options of the command line such as `rounds=7`, after the output's name."""
    return defaults | {key: int(value) for key, value in (argument.split("=") for argument in sys.argv[2:])}


def interleaved(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of this thread for every call, in turns; the first calls choose kernels and are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.thread_time()
            step()
            seconds[name].append(time.thread_time() - start)
    return seconds


def write(*packages: str, **found: object) -> None:
    """Write and print a result, with what it depends on."""
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "versions": {name: importlib.metadata.version(name) for name in packages},
        **found,
    }
    Path(sys.argv[1]).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
