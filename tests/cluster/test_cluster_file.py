"""`cluster.yaml` and its variants pass Ray's own validation, and the checks that Ray's does not make."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CLOUDS = ["cluster.yaml", "clusters/gcp.yaml"]
RAY_UP = [*CLOUDS, "clusters/on-premise.yaml"]
WATCHER = "transvae_platform.cluster.spot_watch"


def load(name):
    return yaml.safe_load((ROOT / name).read_text())


def kuberay(kind):
    return next(
        document
        for document in yaml.safe_load_all((ROOT / "clusters/kuberay.yaml").read_text())
        if document["kind"] == kind
    )["spec"]


@pytest.fixture(params=RAY_UP)
def cluster(request):
    return load(request.param)


@pytest.fixture(params=CLOUDS)
def cloud(request):
    return load(request.param)


def workers_of(cloud):
    return {name: kind for name, kind in cloud["available_node_types"].items() if name != cloud["head_node_type"]}


def head_of(cloud):
    return cloud["available_node_types"][cloud["head_node_type"]]


def test_ray_accepts_it(cluster):
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(cluster))


def test_ray_would_refuse_a_mistake(cloud):
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    worker = {**cloud["available_node_types"]["spot_8gpu"], "max_wokers": 8}
    with pytest.raises(ValidationError):
        validate_config(
            prepare_config({**cloud, "available_node_types": {**cloud["available_node_types"], "spot_8gpu": worker}})
        )


def test_the_head_declares_what_all_workers_together_have(cloud):
    workers, head = workers_of(cloud), head_of(cloud)["resources"]
    gpus = {name: kind["resources"].get("GPU", 0) for name, kind in workers.items()}
    cores = [kind["max_workers"] * kind["resources"]["CPU"] for name, kind in workers.items() if not gpus[name]]
    assert head["gpu_slots"] == sum(kind["max_workers"] * gpus[name] for name, kind in workers.items())
    assert head["cpu_slots"] == sum(cores), "a GPU node's cores feed its GPUs"
    assert head["node_gpus"] == max(gpus.values())
    assert head["gpu_memory"] == 80, "of an H100"
    assert sum(kind["max_workers"] for kind in workers.values()) <= cloud["max_workers"]
    for name, kind in workers.items():  # or the autoscaler would bring none for `resources.accelerator`
        assert kind["resources"].get("accelerator_type:H100") == (1 if gpus[name] else None)
    assert head["gpu_slots_H100"] == head["gpu_slots"]


def test_the_hosts_of_ones_own_declare_it_at_their_start():
    cluster = load("clusters/on-premise.yaml")
    (start,) = [command for command in cluster["head_start_ray_commands"] if "ray start" in command]
    declared = json.loads(re.search(r"--resources='(.*?)'", start)[1])
    assert declared == {
        "head": 1,
        "gpu_slots": 8 * cluster["max_workers"],
        "gpu_slots_H100": 8 * cluster["max_workers"],
        "cpu_slots": 0,
        "node_gpus": 8,
        "gpu_memory": 80,
    }
    assert len(cluster["provider"]["worker_ips"]) == cluster["max_workers"] == cluster["min_workers"]
    assert "--num-cpus=0 --num-gpus=0" in start, "the head takes only drivers"


def test_kuberay_declares_the_same():
    spec = kuberay("RayCluster")
    head = json.loads(json.loads(spec["headGroupSpec"]["rayStartParams"]["resources"]))
    limits = {
        group["groupName"]: (
            group["maxReplicas"],
            group["template"]["spec"]["containers"][0]["resources"]["limits"],
        )
        for group in spec["workerGroupSpecs"]
    }
    gpus = {name: int(limit.get("nvidia.com/gpu", 0)) for name, (_, limit) in limits.items()}
    assert head["gpu_slots"] == sum(most * gpus[name] for name, (most, _) in limits.items())
    assert head["cpu_slots"] == sum(
        most * int(limit["cpu"]) for name, (most, limit) in limits.items() if not gpus[name]
    )
    assert head["node_gpus"] == max(gpus.values())
    assert head["gpu_memory"] == 80, "of an H100"
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_a_kubernetes_job_submits_a_study_that_exists_to_that_cluster():
    job = kuberay("RayJob")
    names = [
        document["metadata"]["name"]
        for document in yaml.safe_load_all((ROOT / "clusters/kuberay.yaml").read_text())
        if document["kind"] == "RayCluster"
    ]
    assert [job["clusterSelector"]["ray.io/cluster"]] == names
    study = re.search(r"transvae-study/(studies/\S+)", job["entrypoint"])[1]
    assert (ROOT / study).is_file()
    assert "head" in json.loads(job["entrypointResources"])


def test_pods_that_are_evicted_drain_their_node():
    for group in kuberay("RayCluster")["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        if "nvidia.com/gpu" in pod["containers"][0]["resources"]["limits"]:
            *_, command = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
            leaving, sleeping = re.fullmatch(rf"python -m {WATCHER} --leaving (\d+); sleep (\d+)", command).groups()
            assert int(sleeping) <= int(leaving) < pod["terminationGracePeriodSeconds"]


def test_the_head_is_on_demand_and_takes_only_drivers(cloud):
    head = head_of(cloud)
    assert head["resources"]["CPU"] == 0
    assert head["resources"]["head"] >= 1
    assert "InstanceMarketOptions" not in head["node_config"]
    assert "scheduling" not in head["node_config"]


def test_every_worker_is_spot(cloud):
    for name, kind in workers_of(cloud).items():
        market = kind["node_config"].get("InstanceMarketOptions", {}).get("MarketType")
        models = [each.get("provisioningModel") for each in kind["node_config"].get("scheduling", [])]
        assert market == "spot" or models == ["SPOT"], name
        assert kind["min_workers"] == 0, f"{name} would cost money while nothing runs"


def test_every_worker_watches_for_the_notice_of_its_cloud(cloud):
    *_, start, watch = cloud["worker_start_ray_commands"]
    assert "ray start" in start, "the watcher needs a raylet"
    assert f"python -m {WATCHER} " in watch
    assert "</dev/null" in watch, "ssh waits for whoever holds its input"
    assert watch.endswith("2>&1 &")
    assert importlib.util.find_spec(WATCHER) is not None
    assert not any(WATCHER in command for command in cloud["head_start_ray_commands"]), "the head is on demand"


def test_a_busy_head_does_not_kill_its_mlflow(cluster):
    patient = "--uvicorn-opts=--timeout-worker-healthcheck=60"
    assert sum(patient in command for command in cluster["head_start_ray_commands"]) == 1
    assert patient in sidecar("mlflow")["command"]


def test_the_head_shows_the_dashboard_on_its_own_loopback_address(cluster):
    (shown,) = [command for command in cluster["head_start_ray_commands"] if "transvae dashboard" in command]
    assert "--home /shared/runs" in shown
    assert sidecar("dashboard")["command"][:2] == ["transvae", "dashboard"]
    for words in (shown.split(), sidecar("dashboard")["command"]):
        assert not {"--expose", "--host"} & set(words), "it asks nobody for a password"


def sidecar(name):
    containers = kuberay("RayCluster")["headGroupSpec"]["template"]["spec"]["containers"]
    return next(each for each in containers if each["name"] == name)


def test_nothing_answers_to_strangers(cluster):
    starts = cluster["head_start_ray_commands"]
    assert any("--dashboard-host=127.0.0.1" in command for command in starts)
    (server,) = [command for command in starts if "mlflow server" in command]
    assert "--host 127.0.0.1" in server
    assert "--env RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]
    assert cluster["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"
    assert kuberay("RayCluster")["authOptions"] == {"mode": "token"}


@pytest.mark.parametrize("name", [*RAY_UP, "clusters/kuberay.yaml", "clusters/Dockerfile"])
def test_its_ray_is_the_pinned_one_and_it_holds_no_secret(name):
    text = (ROOT / name).read_text()
    pinned = re.search(r"^ray==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    assert set(re.findall(r"rayproject/ray:([\d.]+)-|rayVersion: ([\d.]+)", text)) <= {(pinned, ""), ("", pinned)}
    assert not re.search(r"AKIA[0-9A-Z]{16}|(?i:password|secret_?key)\s*[:=]\s*\S", text)
