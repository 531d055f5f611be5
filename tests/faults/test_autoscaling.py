"""A study on a cluster that has no worker yet: the autoscaler brings nodes when trials ask, and takes them away again.

Node types are cluster.yaml's, the autoscaler is the one that `ray up` starts there (version 2). Its machines are
processes of one host of its own (`machines.py`): those of `spot_cpu` have one CPU, and two are the most.
"""

import json
import shutil
import time
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FAKE_HEAD_NODE_TYPE
from tests.faults.hosts import ROOT, hosts, missing, start_ray
from tests.faults.nodes import events
from tests.faults.twins import unlike_twin

from transvae_platform.study.state import StudyState

WHY_NOT = missing()
pytestmark = [pytest.mark.fault, pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))]
FOLDER = Path("/tmp/autoscaling")
DEADLINE_SECONDS = 1800.0  # ends a hang, judges no speed
IDLE_SECONDS = 30  # of ten minutes: until an idle node goes
TYPE = "spot_cpu"
KEPT = ("cluster_name", "upscaling_speed", "auth", "available_node_types")
REQUIRED = {
    "cluster_synced_files": [], "file_mounts": {}, "setup_commands": [], "head_setup_commands": [],
    "worker_setup_commands": [],
}  # fmt: skip
PROVIDER = {
    "type": "external", "module": "machines.Machines",
    "head_node_id": FAKE_HEAD_NODE_ID, "launch_multiple": True, "use_node_id_as_ip": True,
    "disable_node_updaters": True, "disable_launch_config_check": True,
}  # fmt: skip
SPEC = {
    "study": "scaled",
    "question": "Does a node come?",
    "expected": {"outcome": "It does.", "source": "assumption"},
    "grid": {"ladder": "micro", "code": "f8d8", "families": {"vit": ["T"], "cnn": ["T"]}},
    "data": {"source": "bundled", "resolution": 32, "view": {"kind": "crops", "per_photograph": 8}},
    "recipe": {"steps": 40, "batch_size": 8, "learning_rate": 0.001, "warmup_steps": 2},
    "evaluation": {"every": 20, "log_every": 5, "images": 8, "pictures": 2},
}
KNOWN = {
    "PYTHONPATH": ":".join(str(ROOT / name) for name in ("models", "platform", "dashboards", "tests/faults")),
    "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64,
    # what `ray up` gives the head
    "RAY_enable_autoscaler_v2": "1", "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
    "RAY_NODE_TYPE_NAME": FAKE_HEAD_NODE_TYPE,
    # what Ray's own tests give it
    "RAY_FAKE_CLUSTER": "1", "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID, "AUTOSCALER_UPDATE_INTERVAL_S": "1",
}  # fmt: skip


@pytest.fixture
def host():
    shutil.rmtree(FOLDER, ignore_errors=True)
    with hosts(FOLDER, ["cluster"], shared="/runs") as made:
        yield made["cluster"]
    shutil.rmtree(FOLDER, ignore_errors=True)


def autoscaling():
    """The shipped file with machines that are processes; its head has the name that the provider gives it."""
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    types = {name: {**kind, "node_config": {}} for name, kind in cluster["available_node_types"].items()}
    types[FAKE_HEAD_NODE_TYPE] = types.pop(cluster["head_node_type"])
    types[TYPE] |= {"resources": {"CPU": 1}, "max_workers": 2}
    return {
        **{key: cluster[key] for key in KEPT}, "provider": PROVIDER, "available_node_types": types,
        "head_node_type": FAKE_HEAD_NODE_TYPE, "max_workers": 2, "idle_timeout_minutes": IDLE_SECONDS / 60, **REQUIRED,
    }  # fmt: skip


def test_nodes_come_for_the_trials_and_go_when_they_are_idle(host, tmp_path):
    cluster = autoscaling()
    host.write("/cluster.json", json.dumps(cluster))
    host.write("/study.yaml", yaml.safe_dump(SPEC))
    declared = {**cluster["available_node_types"][FAKE_HEAD_NODE_TYPE]["resources"]}
    start_ray(
        host, "--head", f"--num-cpus={declared.pop('CPU')}", f"--resources={json.dumps(declared)}",
        "--autoscaling-config=/cluster.json", environment=KNOWN,
    )  # fmt: skip
    assert nodes(host) == [FAKE_HEAD_NODE_TYPE]

    log, began = tmp_path / "study.log", time.monotonic()
    submit = ("transvae", "study", "submit", "/study.yaml", "--home", "/runs")
    study = host.start(*submit, log=log, environment={**KNOWN, "RAY_ADDRESS": "auto"})
    seen, most, trained_on, busy = set(), 0, set(), began
    while study.poll() is None:
        now = nodes(host)
        if len(now) > 1 and most < 2:
            came = time.monotonic() - began
        if training := under_workers(host):
            busy = time.monotonic()
        seen, most, trained_on = seen.union(now), max(most, len(now)), trained_on | training
        assert time.monotonic() < began + DEADLINE_SECONDS, log.read_text() + monitor(host)
        time.sleep(0.2)
    ended = time.monotonic()
    assert study.returncode == 0, log.read_text() + monitor(host)
    assert (seen, trained_on) == ({FAKE_HEAD_NODE_TYPE, TYPE}, {TYPE})
    state = StudyState(FOLDER / "shared" / "studies" / SPEC["study"])
    assert {trial.state for trial in state.trials.values()} == {"finished"}
    assert all(len(events(trial.folder, "started")) == 1 for trial in state.trials.values()), "to wait is no failure"

    while nodes(host) != [FAKE_HEAD_NODE_TYPE]:
        assert time.monotonic() < ended + DEADLINE_SECONDS, monitor(host)
        time.sleep(0.2)
    gone = time.monotonic()
    assert gone - busy >= IDLE_SECONDS, "no node goes before its time"
    for trial in state.trials.values():
        assert unlike_twin(trial, FOLDER / "shared", tmp_path / trial.trial.label) == []
    print(
        json.dumps(
            {
                "first_node_s": round(came), "most_nodes": most - 1, "study_s": round(ended - began),
                "nodes_gone_after_s": round(gone - busy),
            }
        )
    )  # fmt: skip


def nodes(host):
    """The types of all living nodes."""
    return sorted(filter(None, (node_type(host, raylet) for raylet in host.processes("raylet"))))


def node_type(host, process):
    """What the autoscaler called the node of a process that it started; None if it has ended."""
    try:
        told = (host.root / "proc" / str(process) / "environ").read_bytes().split(b"\0")
    except OSError:
        return None
    return next((word.partition(b"=")[2].decode() for word in told if word.startswith(b"RAY_NODE_TYPE_NAME=")), None)


def under_workers(host):
    """The types of the nodes on which something trains now."""
    found = set()
    for process in host.processes():
        folder = host.root / "proc" / str(process)
        try:
            if (folder / "cmdline").read_text().startswith("ray::RayTrainWorker"):
                found.add(node_type(host, (folder / "stat").read_text().rpartition(")")[2].split()[1]))
        except OSError:  # it has ended
            continue
    return found - {None}


def monitor(host):
    """What the autoscaler said last."""
    return host.run("sh", "-c", "grep -hv legacy /tmp/ray/session_latest/logs/monitor.* | tail -n 60", check=False)
