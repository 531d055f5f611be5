"""Which share of a micro model's training goes into its checkpoints, and how long do they hold the training thread?

    python benchmarks/checkpoint_cost.py OUTPUT.json [rounds=7] [steps=30]

Models of the quick start with its recipe and data, one core. Per model, medians in milliseconds: a training step (wall
and CPU); how long the training thread is held by a save in the background (the copy, the start of the thread) and what
the save costs in CPU time, background included; how long the training would be held if it waited for the commit. Shares
are of the steps between two checkpoints, at the interval of the quick start and at the default one. Wanted: training is
held for less than 2 % of the time at either interval. Ends with exit code 1 where that is missed.
"""

import datetime
import importlib.metadata
import json
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from transvae_platform.data.listing.bundled import list_bundled
from transvae_platform.data.making.ingest import ingest
from transvae_platform.data.making.work import run_locally
from transvae_platform.data.sets.catalogue import at_home
from transvae_platform.data.sets.samples import open_data
from transvae_platform.data.stream.batches import TrainStream
from transvae_platform.study.grid import build_grid
from transvae_platform.study.load import load_study
from transvae_platform.study.spec import Evaluation
from transvae_platform.training.checkpoint import open_checkpoints
from transvae_platform.training.criterion import Criterion
from transvae_platform.training.saver import Saver
from transvae_platform.training.step import train_step
from transvae_platform.training.weights import TrialWeights
from transvae_platform.world import World

STUDY = Path(__file__).parents[1] / "studies" / "quickstart.yaml"
MODELS = ("vit-T", "transvae-T", "transvae-G")  # the fastest steps of the quick start, and the slowest
WANTED = 0.02


def main() -> None:
    torch.set_num_threads(1)  # as in a study, where every worker has one core
    options = {"rounds": 7, "steps": 30} | {
        key: int(value) for key, value in (argument.split("=") for argument in sys.argv[2:])
    }
    with tempfile.TemporaryDirectory() as home:
        found = {model: measure(model, Path(home), **options) for model in MODELS}
    intervals = {load_study(STUDY).evaluation.every, Evaluation().every}
    shares = {
        model: {
            f"every {interval} steps": {
                "held": values["held_ms"] / (interval * values["step_ms"]),
                "cpu": values["save_cpu_ms"] / (interval * values["step_cpu_ms"]),
                "held if it waited": values["waiting_ms"] / (interval * values["step_ms"]),
            }
            for interval in sorted(intervals)
        }
        for model, values in found.items()
    }
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "safetensors")},
        **options,
        "medians": found,
        "shares": shares,
    }
    Path(sys.argv[1]).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    sys.exit(max(share["held"] for row in shares.values() for share in row.values()) > WANTED)


def measure(model: str, home: Path, rounds: int, steps: int) -> dict[str, float]:
    """Medians of every part in milliseconds, and the size of a checkpoint in bytes."""
    family, _, size = model.partition("-")
    spec = load_study(STUDY, (f"grid.families={{{family}: [{size}]}}", "recipe.overrides={}"))
    made = at_home(home, ingest(list_bundled(), spec.data, home, run_locally))
    (trial,) = build_grid(spec, made.manifest.fingerprint)
    train, _ = open_data(made.location, home, spec.data.cache_bytes)
    weights, recipe = TrialWeights(trial, World()), trial.recipe
    stream = TrainStream(train, trial.sampling, batch_size=recipe.batch_size, seed=0)
    criterion = Criterion(trial, weights.config.compression, World())
    store = open_checkpoints(trial, home / model)
    saver = Saver(store, World(), None, {})
    times: dict[str, list[float]] = {
        name: [] for name in ("step_ms", "step_cpu_ms", "held_ms", "save_cpu_ms", "waiting_ms")
    }
    for number in range(rounds + 1):  # the first one warms up
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(steps):
            train_step(weights, stream, criterion, World())
        row = [(time.perf_counter() - wall) / steps, (time.process_time() - cpu) / steps]
        wall, cpu = time.perf_counter(), time.process_time()
        saver.save(weights)
        row.append(time.perf_counter() - wall)
        saver.wait()  # nothing else runs meanwhile: all CPU time is the save's
        row += [time.process_time() - cpu, time.perf_counter() - wall]
        if number:
            for name, seconds in zip(times, row, strict=True):
                times[name].append(1000 * seconds)
    with store.verified(weights.step) as folder:
        size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {**{name: statistics.median(values) for name, values in times.items()}, "bytes": size_bytes}


if __name__ == "__main__":
    main()
