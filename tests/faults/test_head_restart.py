"""All of Ray on a cluster's head is killed and started again, its state in Redis; the study is resumed and is its twin.

Ray's head is its one process that all others need; with external storage (`RAY_REDIS_ADDRESS`) the nodes stay and find
it again. A study's driver sits on the head and dies with it: the same study goes on from its checkpoints.
"""

import shutil
from pathlib import Path

import pytest
import yaml
from tests.faults.hosts import ROOT, hosts, missing, start_ray
from tests.faults.nodes import events, until, wait_for_step
from tests.faults.twins import unlike_twin

from transvae_platform.study.state import StudyState

WHY_NOT = missing("redis-server")
pytestmark = [pytest.mark.fault, pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))]
FOLDER = Path("/tmp/head-restart")
STEPS, EVERY = 1200, 300
JOBS = ("--address", "http://127.0.0.1:8265", "--home", "/shared/runs")
SPEC = {
    "study": "restart",
    "question": "Does it survive its head?",
    "expected": {"outcome": "It does.", "source": "assumption"},
    "grid": {"ladder": "micro", "code": "f8d8", "families": {"vit": ["T"]}},
    "data": {"source": "bundled", "resolution": 32, "view": {"kind": "crops", "per_photograph": 8}},
    "recipe": {"steps": STEPS, "batch_size": 8, "learning_rate": 0.001, "warmup_steps": 2},
    "evaluation": {"every": EVERY, "log_every": 1, "images": 8, "pictures": 2},
}
KNOWN = {
    "PYTHONPATH": ":".join(str(ROOT / name) for name in ("models", "platform", "dashboards")),
    "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64,
    # as cluster.yaml's comments say
    "RAY_REDIS_ADDRESS": "127.0.0.1:6380", "RAY_external_storage_namespace": "restart",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
}  # fmt: skip


@pytest.fixture
def network():
    shutil.rmtree(FOLDER, ignore_errors=True)
    with hosts(FOLDER, ["head", "node"]) as made:
        yield made
    shutil.rmtree(FOLDER, ignore_errors=True)


def start_head(head):
    start_ray(
        head, "--head", "--port=6379", "--num-cpus=0", '--resources={"head": 1, "cpu_slots": 1}',
        "--dashboard-host=127.0.0.1", environment=KNOWN,
    )  # fmt: skip


def test_a_study_goes_on_after_its_head_was_killed_and_came_back(network, tmp_path):
    head, node = network["head"], network["node"]
    head.write("/study.yaml", yaml.safe_dump(SPEC))
    redis = head.start("redis-server", "--port", "6380", "--bind", "127.0.0.1", log=tmp_path / "redis.log")
    until(lambda: "Ready to accept" in (tmp_path / "redis.log").read_text())
    start_head(head)
    start_ray(node, f"--address={head.address}:6379", "--num-cpus=1", environment=KNOWN)

    def study(*words, check=True):
        return head.run("transvae", "study", *words, *JOBS, environment=KNOWN, seconds=1200, check=check)

    study("submit", "/study.yaml", "--no-follow")
    trials = FOLDER / "shared" / "runs" / "studies" / "restart" / "trials"
    folder = until(lambda: next(trials.glob("*/journal.jsonl"), None)).parent
    wait_for_step(folder, EVERY + 20)

    raylet = node.processes("raylet")
    others = [str(pid) for pid in head.processes() if pid not in (1, *head.processes("redis-server"))]
    head.run("sh", "-c", f"kill -9 {' '.join(others)} 2>/dev/null; true")
    until(lambda: not head.processes("gcs_server"))
    start_head(head)
    assert node.processes("raylet") == raylet, "with external storage a node survives its head"

    # the Jobs API begins to answer some time after `ray start` says that all is well
    until(lambda: "no Ray Jobs API answers" not in study("status", "restart", check=False))

    said = study("resume", "restart")
    assert "page:" in said
    (trial,) = StudyState(trials.parent).trials.values()
    assert (trial.state, trial.step) == ("finished", STEPS)
    begun = [record["resumed_from"] for record in events(folder, "started")]
    assert begun[0] == 0
    assert EVERY <= begun[-1] < STEPS, "it went on from a checkpoint"
    assert node.processes("raylet") == raylet
    assert redis.poll() is None

    assert unlike_twin(trial, FOLDER / "shared" / "runs", tmp_path / "twin") == []
