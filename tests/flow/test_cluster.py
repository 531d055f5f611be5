"""A study on three Ray nodes with a token, from a laptop's side: it loses a node and its driver, and is stopped.

What the command line says and brings is all that a laptop has: the home is looked into for faults and comparisons only.
"""

import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tests.faults.nodes import events, lost_steps, until, wait_for_step

from transvae_platform.data.sets.catalogue import at_home, list_data_sets
from transvae_platform.data.sets.samples import open_data
from transvae_platform.study.journal import Journal
from transvae_platform.study.state import StudyState
from transvae_platform.training.checkpoint import CheckpointStore
from transvae_platform.training.loop import train_vae
from transvae_platform.training.tensors import read_tensors
from transvae_platform.world import World

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(os.geteuid() != 0, reason="nodes of one machine need file systems of their own"),
]
BIN = Path(sys.executable).parent
DEADLINE_SECONDS = 600  # ends a hang, judges no speed
TEMPORARY = Path("/tmp/ray-cluster-test")  # sockets below it: the path must be short
STEPS, EVERY = 1200, 300
SPEC = {
    "study": "cluster",
    "question": "Does it survive?",
    "expected": {"outcome": "It does.", "source": "assumption"},
    "grid": {"ladder": "micro", "code": "f8d8", "families": {"vit": ["T"]}},
    "data": {"source": "bundled", "resolution": 32, "view": {"kind": "crops", "per_photograph": 8}},
    "recipe": {"steps": STEPS, "batch_size": 8, "learning_rate": 0.001, "warmup_steps": 2},
    "evaluation": {"every": EVERY, "log_every": 1, "images": 8, "pictures": 2},
}


class Nodes:
    """A head that takes no trial and worker nodes of one CPU, each with a process group and ports of its own."""

    def __init__(self, folder):
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        self.environment = {
            **os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token),
        }  # fmt: skip
        self.gcs, self.jobs = free_port(), free_port()
        self.running = {}
        self.start(
            "head", "--head", f"--port={self.gcs}", "--dashboard-host=127.0.0.1", f"--dashboard-port={self.jobs}",
            "--num-cpus=0", '--resources={"head": 1, "cpu_slots": 1}', f"--temp-dir={TEMPORARY}",
        )  # fmt: skip
        until(lambda: answers(self.jobs))
        # nodes unpack a job's sources each for itself, over those that another one of the same machine runs
        self.own = f"mount -t tmpfs none {(TEMPORARY / 'session_latest').resolve()}/runtime_resources"
        for name in ("a", "b"):
            self.start(name, f"--address=127.0.0.1:{self.gcs}", "--num-cpus=1")

    @property
    def address(self):
        return f"http://127.0.0.1:{self.jobs}"

    def start(self, name, *options):
        command = [BIN / "ray", "start", "--block", f"--dashboard-agent-listen-port={free_port()}", *options]
        if name != "head":
            command = ["unshare", "--mount", "sh", "-c", f"{self.own} && exec {shlex.join(map(str, command))}"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        node = subprocess.Popen(command, env=self.environment, start_new_session=True, **quiet)
        self.running[name] = node

        def has_begun():  # two that begin at once take each other's names
            assert node.poll() is None, f"node {name} ended"
            return any(program(pid) == "raylet" for pid in descendants(node.pid))

        until(has_begun)

    def kill(self, name):
        """All processes of a node at once: what a machine that is switched off does."""
        node = self.running.pop(name)
        for pid in [*descendants(node.pid), node.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        node.wait()

    def training(self):
        """The name of the node whose process trains."""
        workers = titled("ray::RayTrainWorker")  # also of other clusters of this machine
        return next(name for name, node in self.running.items() if workers.intersection(descendants(node.pid)))


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    made = Nodes(tmp_path_factory.mktemp("nodes"))
    yield made
    for name in list(made.running):
        made.kill(name)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def descendants(pid):
    """Process ids below a process, the deepest first."""
    parents = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parents.setdefault(int((process / "stat").read_text().rpartition(")")[2].split()[1]), []).append(
                int(process.name)
            )
        except (OSError, IndexError):  # it has ended
            continue
    found, left = [], [pid]
    while left:
        children = parents.get(left.pop(), [])
        found += children
        left += children
    return found[::-1]


def program(pid):
    try:
        return (Path("/proc") / str(pid) / "comm").read_text().strip()
    except OSError:  # it has ended
        return ""


def titled(*parts):
    """The processes whose command line holds all of these."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            said = (process / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if all(part in said for part in parts):
            found.add(int(process.name))
    return found


def weights(folder):
    with CheckpointStore(folder / "checkpoints", keep=9).verified(STEPS) as path:
        return read_tensors(path / "state")


def test_a_study_loses_a_node_and_its_driver_is_stopped_and_ends_as_its_twin(nodes, tmp_path):
    home, file = tmp_path / "runs", tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump(SPEC))

    def transvae(*arguments, code=0, **environment):
        done = subprocess.run(
            [BIN / "transvae", "study", *map(str, arguments), "--address", nodes.address],
            env={**nodes.environment, **environment}, capture_output=True, text=True, timeout=DEADLINE_SECONDS,
            check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr + done.stdout
        return done.stdout + done.stderr

    said = transvae("submit", file, "--home", home, "--no-follow", code=4, RAY_AUTH_TOKEN_PATH=str(tmp_path / "none"))
    assert "wants a token" in said
    assert "cluster-1" in transvae("submit", file, "--home", home, "--no-follow")
    assert "runs already, as job cluster-1" in transvae("submit", file, "--home", home, "--no-follow")
    trials = home / "studies" / "cluster" / "trials"
    folder = until(lambda: next(trials.glob("*/journal.jsonl"), None)).parent

    wait_for_step(folder, EVERY + 20)
    nodes.kill(nodes.training())
    wait_for_step(folder, EVERY + 20, attempt=2)

    (driver,) = [pid for pid in titled("transvae_platform study submit", str(home)) if program(pid) == "python"]
    os.kill(driver, signal.SIGKILL)
    until(lambda: "no life" in transvae("status", "cluster", "--home", home) or time.sleep(2))
    transvae("resume", "cluster", "--home", home, "--no-follow")
    wait_for_step(folder, EVERY + 20, attempt=3)
    assert "has ended; its trials are saved" in transvae("stop", "cluster", "--home", home)
    (paused,) = events(folder, "paused")
    assert "page:" in transvae("resume", "cluster", "--home", home)

    state = StudyState(home / "studies" / "cluster")
    (trial,) = state.trials.values()
    assert (trial.state, trial.step) == ("finished", STEPS)
    begun = [record["resumed_from"] for record in events(folder, "started")]
    assert begun[0] == 0
    assert EVERY <= begun[1] <= begun[2] < begun[3] == paused["step"] < STEPS
    assert 0 < lost_steps(folder) < 2 * EVERY
    transvae("report", "cluster", "--home", home, "--output", tmp_path / "here.html")
    assert "<html" in (tmp_path / "here.html").read_text()

    (made,) = list_data_sets(home)
    twin = tmp_path / "twin"
    journal = Journal(twin / "journal.jsonl")
    samples = open_data(at_home(home, made.manifest).location, home, 10**9)
    train_vae(trial.trial, samples, twin, journal, World(), {})
    journal.close()
    undisturbed, disturbed = weights(twin), weights(folder)
    assert [key for key in undisturbed if not (undisturbed[key] == disturbed[key]).all()] == []
