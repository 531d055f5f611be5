"""Which share of a micro training step goes into reading its batch, the exact order, the noise, journal and guard?

    python benchmarks/step_share.py OUTPUT.json [rounds=7] [steps=60]

Models of the quick start with its recipe and data, one core. CPU milliseconds per step of: the whole step without its
stream; the stream's batch (ids, reading, coins), with nothing read ahead; the ids alone; the latent noise; one record
of the journal; the guard's verdict. Rounds are interleaved, medians compared. Wanted: the stream at most 1 % of the
step, order and journal together at most 1 %, the guard at most 1 %. Ends with exit code 1 where that is missed.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from micro import MODELS, numbers, ready, write

from transvae.config import AutoencoderConfig
from transvae_platform.data.stream.hashing import Purpose, keys
from transvae_platform.data.stream.noise import normal_noise
from transvae_platform.data.stream.turns import Turns
from transvae_platform.study.journal import Journal
from transvae_platform.world import World

BLOCK = 512  # steps: the ids of as many are computed at once, so the cheap parts are timed over whole blocks


class Given:
    """A stream that has its batch already."""

    def __init__(self, batch) -> None:
        self._batch = batch

    def batch(self, step: int):
        return self._batch


def main() -> None:
    options = numbers(rounds=7, steps=60)
    with tempfile.TemporaryDirectory() as home:
        found = {model: measure(model, Path(home), **options) for model in MODELS}
    shares = {
        model: {
            "stream": values["stream"] / values["step"],
            "order and journal": (values["ids"] + values["journal"]) / values["step"],
            "guard": values["guard"] / values["step"],
        }
        for model, values in found.items()
    }
    write("torch", "numpy", "pyarrow", **options, cpu_ms_per_step=found, shares=shares)
    sys.exit(max(share for row in shares.values() for share in row.values()) > 0.01)


def measure(model: str, home: Path, rounds: int, steps: int) -> dict[str, float]:
    """Median CPU milliseconds per step of every part."""
    bench = ready(model, home)
    trial, weights = bench.trial, bench.weights
    batch = bench.stream.batch(0)
    given, ids = Given(batch), batch.ids
    config = AutoencoderConfig.from_dict(trial.model_config_values)
    latent = (config.latent_dim, *(trial.resolution // config.compression,) * 2)
    journal = Journal(home / f"{model}.jsonl")
    metrics = {f"train/{name}": 0.123456789 for name in ("loss", "l1", "kl", "gradient_norm", "learning_rate")}
    loss, norm, world = torch.tensor(0.1), torch.tensor(1.0), World()
    parts: dict[str, tuple[Callable[[int], object], int]] = {
        "step": (lambda step: bench.step(given), steps),
        "stream": (bench.stream.batch, BLOCK),
        "ids": (Turns(bench.train, None, trial.recipe.batch_size, seed=1, rank=0, world=1).at, BLOCK),
        "noise": (
            lambda step: normal_noise(torch.from_numpy(keys(Purpose.NOISE, 0, ids, np.full_like(ids, step))), latent),
            BLOCK,
        ),
        # as often as the loop writes it
        "journal": (
            lambda step: step % trial.evaluation.log_every or journal.append("step", step=step, metrics=metrics),
            BLOCK,
        ),
        "guard": (lambda step: weights.guard.judge(loss, norm, world), BLOCK),
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
