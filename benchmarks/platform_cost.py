"""What the platform costs beside the training itself: the same trial by `transvae study submit` and by the bare loop.

    python benchmarks/platform_cost.py OUTPUT.json [rounds=5] [steps=1500]

The smallest micro model of the quick start with its recipe, one core. Bare: `train_vae` in a process of its own, with
journal and checkpoints, without Ray and MLflow. Platform: the command, from the first to the last byte: Ray Tune, Ray
Train, MLflow in a fresh home. Rounds are interleaved, medians compared. Per step, between the first and the last record
of training: wall time, and CPU time of the process that trains. All other processes that the command started (found by
a mark in their environment) wait and look around, however long a step takes: they are given as a share of one core.
Start-up is broken down by the records of the journals. Wanted: at most 2 % per step. Ends with exit code 1 where wall
or CPU time misses it. A machine that does other work measures that work: run it alone.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from micro import STUDY, numbers, write

from transvae_platform.study.journal import read_journal

WANTED = 0.02
MARK = "TRANSVAE_BENCH"
TRAINS = b"RayTrainWorker"
"""In the title of the platform's process that trains; the bare loop is one process."""
TICKS = os.sysconf("SC_CLK_TCK")
BARE = """
import sys
from pathlib import Path
import torch
from transvae_platform.data.sets.catalogue import list_data_sets
from transvae_platform.data.sets.samples import open_data
from transvae_platform.study.grid import build_grid
from transvae_platform.study.journal import Journal
from transvae_platform.study.load import load_study
from transvae_platform.training.loop import train_vae
from transvae_platform.world import World
torch.set_num_threads(1)
home, study, *changes = sys.argv[1:]
spec = load_study(Path(study), tuple(changes))
(made,) = list_data_sets(Path(home))
(trial,) = build_grid(spec, made.manifest.fingerprint)
samples = open_data(made.location, Path(home), spec.data.cache_bytes)
folder = Path(home) / "bare" / spec.study
train_vae(trial, samples, folder, Journal(folder / "journal.jsonl"), World(), {})
"""


def main() -> None:
    options = numbers(rounds=5, steps=1500)
    found: dict[str, list[dict[str, float]]] = {"bare": [], "platform": []}
    with tempfile.TemporaryDirectory() as home:
        for number in range(options["rounds"] + 1):  # the first one makes the data set and warms up
            for kind in ("platform", "bare"):
                row = run(kind, Path(home), f"cost-{number}", options["steps"])
                if number:
                    found[kind].append(row)
    medians = {
        kind: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for kind, rows in found.items()
    }
    extra = {
        key: medians["platform"][key] / medians["bare"][key] - 1 for key in ("wall_ms_per_step", "cpu_ms_per_step")
    }
    write("torch", "ray", "mlflow", **options, medians=medians, rows=found, extra_share=extra)
    sys.exit(max(extra.values()) > WANTED)


def run(kind: str, home: Path, study: str, steps: int) -> dict[str, float]:
    """One training: milliseconds per step, and seconds of every part of its start and end."""
    changes = (
        f"study={study}", "grid.families={vit: [T]}", "grid.seeds=[0]", f"recipe.steps={steps}", "recipe.overrides={}",
        f"evaluation.every={steps}", "evaluation.log_every=10",
    )  # fmt: skip
    if kind == "bare":
        command = [sys.executable, "-c", BARE, str(home), str(STUDY), *changes]
        pattern = f"bare/{study}/journal.jsonl"
    else:
        command = [
            sys.executable,
            "-m",
            "transvae_platform",
            "study",
            "submit",
            str(STUDY),
            *changes,
            "--home",
            str(home),
        ]
        pattern = f"studies/{study}/trials/*/journal.jsonl"
    token, began = uuid.uuid4().hex, time.time()
    environment = {**os.environ, MARK: token, "OMP_NUM_THREADS": "1"}
    with (home / f"{kind}.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        cpu = [_cpu_at(home, pattern, step, token, process) for step in (steps // 10, steps - 10)]
        if process.wait():
            sys.exit(f"{kind} failed:\n{(home / f'{kind}.log').read_text()}")
    (journal,) = home.glob(pattern)
    records = read_journal(journal)
    at = {record["event"]: record["at"] for record in records}
    stepped = [record for record in records if record["event"] == "step"]
    parts = {"to the first step": stepped[0]["at"] - began, "after the last step": time.time() - stepped[-1]["at"]}
    if kind == "platform":
        head = {record["event"]: record["at"] for record in read_journal(home / "studies" / study / "journal.jsonl")}
        parts |= {
            "command to submitted": head["submitted"] - began,
            "submitted to queued": head["queued"] - head["submitted"],
            "queued to started (Ray, imports, model)": at["started"] - head["queued"],
            "started to the tenth step": stepped[0]["at"] - at["started"],
        }
    between = [record["seconds_per_step"] for record in stepped if record["step"] > steps // 10]
    (first, *before), (last, *after) = cpu
    seconds, training, others = (now - then for now, then in zip(after, before, strict=True))
    return {
        "wall_ms_per_step": 1000 * statistics.median(between),
        "cpu_ms_per_step": 1000 * training / (last - first),
        "cores of other processes": others / seconds,
        **{f"seconds: {name}": value for name, value in parts.items()},
    }


def _cpu_at(
    home: Path, pattern: str, step: int, token: str, process: subprocess.Popen[bytes]
) -> tuple[int, float, float, float]:
    """As soon as the journal tells of this step: (the newest step, time, CPU seconds of the training, of the rest)."""
    while process.poll() is None:
        for journal in home.glob(pattern):
            told = [
                record["step"]
                for record in map(_read, journal.read_text().splitlines())
                if record.get("event") == "step"
            ]
            if told and told[-1] >= step:
                return told[-1], time.monotonic(), *_cpu_seconds(token, process.pid)
        time.sleep(0.05)
    sys.exit(f"the training ended before step {step}:\n{(home / 'platform.log').read_text()}")


def _read(line: str) -> dict:
    try:
        return json.loads(line)
    except ValueError:  # half a line, being written
        return {}


def _cpu_seconds(token: str, bare: int) -> tuple[float, float]:
    """Of the process that trains, which is `bare` where Ray has none, and of all other marked ones together."""
    ticks, training = {}, bare
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and f"{MARK}={token}".encode() in (folder / "environ").read_bytes():
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                ticks[int(folder.name)] = sum(map(int, fields[11:15]))  # and its children's that have ended
                if TRAINS in (folder / "cmdline").read_bytes():
                    training = int(folder.name)
        except OSError:  # gone meanwhile, or another user's
            continue
    own = ticks.pop(training)
    return own / TICKS, sum(ticks.values()) / TICKS


if __name__ == "__main__":
    main()
