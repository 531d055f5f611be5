"""Which share of a micro model's training goes into its checkpoints, and how long do they hold the training thread?

    python benchmarks/checkpoint_cost.py OUTPUT.json [rounds=7] [steps=30]

Models of the quick start with its recipe and data, one core. Per model, medians in milliseconds: a training step (wall
and CPU); how long the training thread is held by a save in the background (the copy, the start of the thread) and what
the save costs in CPU time, background included; how long the training would be held if it waited for the commit. Shares
are of the steps between two checkpoints, at the interval of the quick start and at the default one. Wanted: training is
held for less than 2 % of the time at either interval. Ends with exit code 1 where that is missed.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from micro import MODELS, STUDY, numbers, ready, write

from transvae_platform.study.load import load_study
from transvae_platform.study.spec import Evaluation
from transvae_platform.training.checkpoint import open_checkpoints
from transvae_platform.training.saver import Saver
from transvae_platform.world import World

WANTED = 0.02


def main() -> None:
    options = numbers(rounds=7, steps=30)
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
    write("torch", "safetensors", **options, medians=found, shares=shares)
    sys.exit(max(share["held"] for row in shares.values() for share in row.values()) > WANTED)


def measure(model: str, home: Path, rounds: int, steps: int) -> dict[str, float]:
    """Medians of every part in milliseconds, and the size of a checkpoint in bytes."""
    bench = ready(model, home)
    store = open_checkpoints(bench.trial, home / model)
    saver = Saver(store, World(), None, {})
    times: dict[str, list[float]] = {
        name: [] for name in ("step_ms", "step_cpu_ms", "held_ms", "save_cpu_ms", "waiting_ms")
    }
    for number in range(rounds + 1):  # the first one warms up
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(steps):
            bench.step()
        row = [(time.perf_counter() - wall) / steps, (time.process_time() - cpu) / steps]
        wall, cpu = time.perf_counter(), time.process_time()
        saver.save(bench.weights)
        row.append(time.perf_counter() - wall)
        saver.wait()  # nothing else runs meanwhile: all CPU time is the save's
        row += [time.process_time() - cpu, time.perf_counter() - wall]
        if number:
            for name, seconds in zip(times, row, strict=True):
                times[name].append(1000 * seconds)
    with store.verified(bench.weights.step) as folder:
        size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {**{name: statistics.median(values) for name, values in times.items()}, "bytes": size_bytes}


if __name__ == "__main__":
    main()
