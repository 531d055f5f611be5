"""Which share of a micro training step goes into reading its batch, the exact order, the noise and the journal?

    python benchmarks/step_share.py OUTPUT.json [rounds=7] [steps=60]

Models of the quick start with its recipe and data, one core. CPU milliseconds per step of: the whole step without its
stream; the stream's batch (ids, reading, coins), with nothing read ahead; the ids alone; the latent noise; one record
of the journal. Rounds are interleaved, medians compared. Wanted: the stream at most 1 % of the step, order and journal
together at most 1 %. Ends with exit code 1 where that is missed.
"""

import datetime
import importlib.metadata
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from transvae.losses.objective import Objective, ObjectiveConfig
from transvae_platform.data.listing.bundled import list_bundled
from transvae_platform.data.making.ingest import ingest
from transvae_platform.data.making.work import run_locally
from transvae_platform.data.sets.catalogue import at_home
from transvae_platform.data.sets.samples import open_data
from transvae_platform.data.stream.batches import TrainStream
from transvae_platform.data.stream.hashing import Purpose, keys
from transvae_platform.data.stream.noise import normal_noise
from transvae_platform.data.stream.turns import Turns
from transvae_platform.study.grid import build_grid
from transvae_platform.study.journal import Journal
from transvae_platform.study.load import load_study
from transvae_platform.training import loop
from transvae_platform.training.weights import TrialWeights
from transvae_platform.world import World

STUDY = Path(__file__).parents[1] / "studies" / "quickstart.yaml"
BLOCK = 512  # steps: the ids of as many are computed at once, so the cheap parts are timed over whole blocks
MODELS = ("vit-T", "transvae-T", "transvae-G")  # the fastest steps of the quick start, and the slowest


class Given:
    """A stream that has its batch already."""

    def __init__(self, batch) -> None:
        self._batch = batch

    def batch(self, step: int):
        return self._batch


def main() -> None:
    torch.set_num_threads(1)  # as in a study, where every worker has one core
    options = {"rounds": 7, "steps": 60} | {
        key: int(value) for key, value in (argument.split("=") for argument in sys.argv[2:])
    }
    with tempfile.TemporaryDirectory() as home:
        found = {model: measure(model, Path(home), **options) for model in MODELS}
    shares = {
        model: {
            "stream": values["stream"] / values["step"],
            "order and journal": (values["ids"] + values["journal"]) / values["step"],
        }
        for model, values in found.items()
    }
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "numpy", "pyarrow")},
        **options,
        "cpu_ms_per_step": found,
        "shares": shares,
    }
    Path(sys.argv[1]).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    sys.exit(max(share for row in shares.values() for share in row.values()) > 0.01)


def measure(model: str, home: Path, rounds: int, steps: int) -> dict[str, float]:
    """Median CPU milliseconds per step of every part."""
    family, _, size = model.partition("-")
    spec = load_study(STUDY, (f"grid.families={{{family}: [{size}]}}", "recipe.overrides={}"))
    made = at_home(home, ingest(list_bundled(), spec.data, home, run_locally))
    (trial,) = build_grid(spec, made.manifest.fingerprint)
    train, _ = open_data(made.location, home, spec.data.cache_bytes)
    weights, recipe = TrialWeights(trial, World()), trial.recipe
    stream = TrainStream(train, trial.sampling, batch_size=recipe.batch_size, seed=0)
    objective = Objective(ObjectiveConfig(l1=recipe.losses.l1, kl=recipe.losses.kl, reduction=recipe.losses.reduction))
    given, ids = Given(stream.batch(0)), stream.batch(0).ids
    config = weights.config
    latent = (config.latent_dim, *(trial.resolution // config.compression,) * 2)
    journal = Journal(home / f"{model}.jsonl")
    metrics = {f"train/{name}": 0.123456789 for name in ("loss", "l1", "kl", "gradient_norm", "learning_rate")}
    parts: dict[str, tuple[Callable[[int], object], int]] = {
        "step": (lambda step: loop._train_step(weights, given, objective, World()), steps),
        "stream": (stream.batch, BLOCK),
        "ids": (Turns(train, None, recipe.batch_size, seed=1, rank=0, world=1).at, BLOCK),
        "noise": (
            lambda step: normal_noise(torch.from_numpy(keys(Purpose.NOISE, 0, ids, np.full_like(ids, step))), latent),
            BLOCK,
        ),
        # as often as the loop writes it
        "journal": (
            lambda step: step % trial.evaluation.log_every or journal.append("step", step=step, metrics=metrics),
            BLOCK,
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in parts}
    for number in range(rounds + 1):  # the first one warms up
        for name, (part, count) in parts.items():
            began = time.process_time()
            for step in range(number * count, (number + 1) * count):
                part(step)
            if number:
                times[name].append((time.process_time() - began) * 1000 / count)
    return {name: statistics.median(values) for name, values in times.items()}


if __name__ == "__main__":
    main()
