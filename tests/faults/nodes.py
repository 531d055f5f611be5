"""A Ray cluster of a head and worker nodes on this machine, trials on it, and ways to take nodes and workers away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

from transvae_platform.cluster import schedule
from transvae_platform.cluster.spot_watch import find_raylet
from transvae_platform.data.listing.bundled import list_bundled
from transvae_platform.data.making.ingest import ingest
from transvae_platform.data.making.work import run_locally
from transvae_platform.data.sets.catalogue import at_home
from transvae_platform.data.sets.samples import open_data
from transvae_platform.study.grid import build_grid
from transvae_platform.study.journal import Journal, read_journal
from transvae_platform.study.lease import wait_for_lease
from transvae_platform.study.load import load_study
from transvae_platform.study.record import Record
from transvae_platform.study.scheduling import Agenda, Work
from transvae_platform.study.trial import Trial
from transvae_platform.training.loop import train_vae
from transvae_platform.world import World

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 600.0  # ends a hang, judges no speed
STEPS, EVERY = 600, 200
CHANGES = (
    f"recipe.steps={STEPS}", f"evaluation.every={EVERY}", "evaluation.log_every=1", "evaluation.images=16",
    "evaluation.pictures=2", "data.view.per_photograph=32", "recipe.overrides={}",
)  # fmt: skip


@dataclass
class Bench:
    """A home with a data set, and a connected cluster whose head takes no trial."""

    home: Path
    cluster: Cluster
    workers: list[Any] = field(default_factory=list)

    def fill_up(self, nodes: int = 2) -> None:
        """As many worker nodes of one CPU as a scenario begins with."""
        while len(self.workers) < nodes:
            self.workers.append(self.cluster.add_node(num_cpus=1))
        self.cluster.wait_for_nodes()

    def trials(self, *changes: str) -> tuple[Trial, ...]:
        spec = load_study(ROOT / "studies" / "quickstart.yaml", (*CHANGES, *changes))
        made = at_home(self.home, ingest(list_bundled(), spec.data, self.home, run_locally))
        self._location, self._cache = made.location, spec.data.cache_bytes
        return build_grid(spec, made.manifest.fingerprint)

    def run(self, name: str, trials: tuple[Trial, ...], meanwhile: Callable[[dict[str, Path]], Any]) -> dict[str, Path]:
        """Run trials to their end while `meanwhile` does its deed; returns their folders by label."""
        study = self.home / "studies" / name
        folders = {trial.label: study / "trials" / trial.id for trial in trials}
        places = {"data": [(self._location, 1.0)], "sets": {}, "cache_bytes": self._cache}
        with wait_for_lease(study, lambda holder: None) as fence, ThreadPoolExecutor(1) as pool:
            deed = pool.submit(meanwhile, folders)
            works = tuple(Work(trial.id, trial.workers.workers, 60.0, "cpu") for trial in trials)
            agenda = Agenda(works, {"cpu": schedule.cluster_devices()[0]})
            schedule.run_trials(trials, agenda, study, fence, {"code": "test"}, lambda _: places)
            deed.result(DEADLINE_SECONDS)
        return folders

    def train_here(self, name: str, trial: Trial) -> Path:
        """The uninterrupted twin: the same trial in this process, without Ray; returns its folder."""
        folder = self.home / name
        journal = Journal(folder / "journal.jsonl")
        train_vae(trial, open_data(self._location, self.home, self._cache), folder, journal, World(), {})
        journal.close()
        return folder

    def rank_0(self, folder: Path) -> tuple[Any, int]:
        """(node, process id) of a trial's rank 0: the training worker that has its journal open."""
        raylets = {find_raylet(node.node_id).process.name: node for node in self.workers}
        for process in Path("/proc").glob("[0-9]*"):
            if _is(process, "ray::RayTrainWorker") and folder / "journal.jsonl" in _open_files(process):
                return raylets[_parent(process)], int(process.name)
        raise AssertionError(f"no process trains {folder.name}")

    def drivers(self) -> list[int]:
        """The processes that drive a trial of this cluster, Tune's actors: another Ray of this machine has its own."""
        head = find_raylet(self.cluster.head_node.node_id).process.name
        found = [process for process in Path("/proc").glob("[0-9]*") if _is(process, "ray::ImplicitFunc.train")]
        return [int(process.name) for process in found if _parent(process) == head]

    def lose(self, node: Any) -> None:
        """End all processes of a node at once."""
        self.workers.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)


@contextmanager
def bench(home: Path) -> Iterator[Bench]:
    """A head and two worker nodes of one CPU each; notices reach trials within half a second."""
    os.environ.update(RAY_AUTH_MODE="disabled", RAY_TRAIN_ENABLE_PREEMPTION_WATCHER="1")
    schedule.RAY_ENVIRONMENT.update(RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S="0.5", RAY_AUTH_MODE="disabled")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "resources": {"head": 1, "cpu_slots": 2}})
    try:
        made = Bench(home, cluster)
        made.fill_up()
        with schedule.ray_session(cluster.address):
            yield made
    finally:
        cluster.shutdown()


def kill(pid: int) -> float:
    """End a process without warning; returns when."""
    os.kill(pid, signal.SIGKILL)
    return time.time()


def wait_for_step(folder: Path, step: int, attempt: int = 1) -> None:
    """Return when an attempt has trained to a step."""
    until(lambda: any(record["step"] >= step for record in steps_of(folder, attempt)))


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + DEADLINE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)
    return found


def events(folder: Path, event: str) -> list[Record]:
    return [record for record in read_journal(folder / "journal.jsonl") if record["event"] == event]


def steps_of(folder: Path, attempt: int) -> list[Record]:
    """The step records of the n-th attempt, counted from 1."""
    found: list[Record] = []
    begun = 0
    for record in read_journal(folder / "journal.jsonl"):
        begun += record["event"] == "started"
        if begun == attempt and record["event"] == "step":
            found.append(record)
    return found


def lost_steps(folder: Path) -> int:
    """Steps that were trained and had to be trained again."""
    steps = [record["step"] for record in events(folder, "step")]
    return len(steps) - len(set(steps))


@contextmanager
def spot_watch(node: Any) -> Iterator[Callable[[float], float]]:
    """The watcher beside a node, on an AWS played here.

    Yields a function that gives notice, so many seconds ahead, and returns the deadline.
    """
    page: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self._answer(200, b"token")

        def do_GET(self) -> None:
            self._answer(200, page[0].encode()) if page else self._answer(404, b"")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    def give_notice(seconds: float) -> float:
        at = datetime.fromtimestamp(int(time.time() + seconds), UTC)  # clouds tell whole seconds
        page.append(json.dumps({"action": "terminate", "time": at.isoformat().replace("+00:00", "Z")}))
        return at.timestamp()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    command = [sys.executable, "-m", "transvae_platform.cluster.spot_watch", "--node", node.node_id]
    watcher = subprocess.Popen([*command, "--metadata", f"http://127.0.0.1:{server.server_port}"])
    try:
        yield give_notice
    finally:
        watcher.terminate()
        watcher.wait()
        server.shutdown()
        server.server_close()


def _is(process: Path, title: str) -> bool:
    try:
        return (process / "cmdline").read_text().startswith(title)
    except OSError:  # it has ended
        return False


def _parent(process: Path) -> str:
    return (process / "stat").read_text().rpartition(")")[2].split()[1]


def _open_files(process: Path) -> list[Path]:
    return [link.readlink() for link in (process / "fd").iterdir()]
