"""`cluster.yaml` passes Ray's own validation, and the checks that Ray's does not make."""

import importlib.util
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster():
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def test_ray_accepts_it(cluster):
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(cluster))


def test_ray_would_refuse_a_mistake(cluster):
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    worker = {**cluster["available_node_types"]["spot_8gpu"], "max_wokers": 8}
    with pytest.raises(ValidationError):
        validate_config(
            prepare_config(
                {**cluster, "available_node_types": {**cluster["available_node_types"], "spot_8gpu": worker}}
            )
        )


def test_slots_are_the_gpus_that_the_cluster_can_have(cluster):
    types = cluster["available_node_types"]
    workers = {name: kind for name, kind in types.items() if name != cluster["head_node_type"]}
    gpus = sum(kind["max_workers"] * kind["resources"].get("GPU", 0) for kind in workers.values())
    assert types[cluster["head_node_type"]]["resources"]["gpu_slots"] == gpus
    assert sum(kind["max_workers"] for kind in workers.values()) <= cluster["max_workers"]


def test_the_head_is_on_demand_and_takes_only_drivers(cluster):
    head = cluster["available_node_types"][cluster["head_node_type"]]
    assert head["resources"]["CPU"] == 0
    assert head["resources"]["head"] >= 1
    assert "InstanceMarketOptions" not in head["node_config"]


def test_every_gpu_worker_is_spot(cluster):
    for name, kind in cluster["available_node_types"].items():
        if "GPU" in kind["resources"]:
            assert kind["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot", name


def test_every_worker_watches_for_the_notice_of_its_cloud(cluster):
    module = "transvae_platform.cluster.spot_watch"
    *_, start, watch = cluster["worker_start_ray_commands"]
    assert "ray start" in start, "the watcher needs a raylet"
    assert f"python -m {module} " in watch
    assert "</dev/null" in watch, "ssh waits for whoever holds its input"
    assert watch.endswith("2>&1 &")
    assert importlib.util.find_spec(module) is not None
    assert not any(module in command for command in cluster["head_start_ray_commands"]), "the head is on demand"
