"""How much memory and CPU does a running trial take of a cluster's head, and how much do Ray and the submission take?

    python benchmarks/head.py OUTPUT.json [few=1 many=4 seconds=60]

A Ray cluster on this machine: a head without CPUs, as in cluster.yaml, and a worker node of one CPU for every trial.
While all trials of a study train, the processes of the head are read twice, so many seconds apart: their proportional
share of memory (PSS: a page that several processes share counts by its parts) and their CPU time. They are what its
raylet started (drivers, Ray Train's controllers), Ray's own servers, and the submission. What more trials take more is
what a trial costs, the rest a head takes anyway. Trials share this machine's cores with the head, so they are slow:
what the head does once per second is measured fairly, what it does once per step too seldom.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}

from micro import STUDY, numbers, write
from ray.cluster_utils import Cluster

from transvae_platform.study.state import StudyState

CHANGES = ("study=head", "grid.families={vit: [T]}", "recipe.steps=100000", "recipe.overrides={}")
WAIT_SECONDS = 1800.0  # ends a hang
TICKS = os.sysconf("SC_CLK_TCK")
SERVERS = ("gcs_server", "raylet", "dashboard/agent", "runtime_env/agent", "dashboard/dashboard", "monitor.py")


@dataclass
class Process:
    """One of the head's, as it is now."""

    name: str
    memory: int
    """Bytes."""
    seconds: float
    """Of CPU, since it began."""


def main() -> None:
    options = numbers(few=1, many=4, seconds=60)
    few, many = options["few"], options["many"]
    found = {count: measure(count, options["seconds"]) for count in (few, many)}
    total = {count: {key: sum(row[key] for row in rows.values()) for key in KEYS} for count, rows in found.items()}
    per_trial = {key: (total[many][key] - total[few][key]) / (many - few) for key in KEYS}
    write(
        "ray", "torch", **options,
        by_process={f"{count} trials": rows for count, rows in found.items()},
        head={f"{count} trials": row for count, row in total.items()},
        per_trial=per_trial,
        shared={key: total[few][key] - few * per_trial[key] for key in KEYS},
    )  # fmt: skip


KEYS = ("megabytes", "cores")


def measure(trials: int, seconds: int) -> dict[str, dict[str, float]]:
    """Processes, megabytes and busy cores of the head by the name of the process, while so many trials train."""
    with tempfile.TemporaryDirectory(prefix="head-") as temporary:
        home = Path(temporary)
        head = {"num_cpus": 0, "resources": {"head": 1, "cpu_slots": trials}}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            nodes = [cluster.add_node(num_cpus=1) for _ in range(trials)]
            changes = (*CHANGES, f"grid.seeds={list(range(trials))}")
            command = [sys.executable, "-m", "transvae_platform", "study", "submit", str(STUDY), *changes]
            submission = subprocess.Popen(
                [*command, "--home", temporary], env={**os.environ, "RAY_ADDRESS": cluster.address},
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                wait_until_all_train(submission, home, trials)
                return between(cluster.head_node, nodes, submission.pid, seconds)
            finally:
                submission.send_signal(signal.SIGINT)
                submission.wait()
        finally:
            cluster.shutdown()


def wait_until_all_train(submission: subprocess.Popen[bytes], home: Path, trials: int) -> None:
    """Return when every trial has taken steps."""
    end = time.monotonic() + WAIT_SECONDS
    while True:
        folder = home / "studies" / "head"
        known = StudyState(folder).trials.values() if folder.exists() else ()
        if sum(trial.state == "running" and bool(trial.train) for trial in known) == trials:
            return
        if time.monotonic() > end or submission.poll() is not None:
            raise SystemExit(f"not all of {trials} trials came to train")
        time.sleep(1)


def between(head: Any, nodes: list[Any], submission: int, seconds: int) -> dict[str, dict[str, float]]:
    """What the head's processes hold at the end of a while, and how busy they were in it."""
    begun, before = time.monotonic(), processes(head, nodes, submission)
    time.sleep(seconds)
    after, took = processes(head, nodes, submission), time.monotonic() - begun
    rows: dict[str, dict[str, float]] = defaultdict(lambda: {"processes": 0, "megabytes": 0.0, "cores": 0.0})
    for pid, process in after.items():
        row = rows[process.name]
        row["processes"] += 1
        row["megabytes"] += process.memory / 1e6
        row["cores"] += (process.seconds - (before[pid].seconds if pid in before else 0.0)) / took
    return dict(sorted(rows.items()))


def processes(head: Any, nodes: list[Any], submission: int) -> dict[int, Process]:
    """Those of the head: every process belongs to the nearest one above it that a node or the submission began with."""
    begun = {pid: False for node in nodes for pid in pids(node)} | dict.fromkeys([*pids(head), submission], True)
    above = {int(path.name): parent(path) for path in Path("/proc").glob("[0-9]*")}
    found = {}
    for pid in above:
        ancestor: int | None = pid
        while ancestor is not None and ancestor not in begun:
            ancestor = above.get(ancestor)
        if ancestor is not None and begun[ancestor] and (process := read(pid)) is not None:
            found[pid] = process
    return found


def pids(node: Any) -> list[int]:
    """The processes that a node began with."""
    return [info.process.pid for infos in node.all_processes.values() for info in infos]


def parent(folder: Path) -> int | None:
    words = fields(folder)
    return int(words[1]) if words else None


def fields(folder: Path) -> list[str]:
    """What `stat` says of a process after its name; nothing of one that has ended."""
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def read(pid: int) -> Process | None:
    """None of a process that has ended."""
    folder = Path(f"/proc/{pid}")
    words = fields(folder)
    try:
        share = re.search(r"^Pss:\s+(\d+)", (folder / "smaps_rollup").read_text(), re.MULTILINE)
        line = (folder / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
    except OSError:
        return None
    if share is None or not words:
        return None
    return Process(called(line), 1024 * int(share[1]), (int(words[11]) + int(words[12])) / TICKS)


def called(line: str) -> str:
    """A process by its command line, as Ray names its actors."""
    if line.startswith("ray::"):
        return re.split(r"[.(\s]", line, maxsplit=1)[0]
    if "transvae_platform study" in line:
        return "submission"
    return next((name for name in SERVERS if name in line), line.partition(" ")[0].rpartition("/")[2])


if __name__ == "__main__":
    main()
