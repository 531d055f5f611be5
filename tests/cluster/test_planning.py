"""A plan against a running cluster: what no node of it can have is refused before anything starts."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from transvae_platform.cluster import schedule
from transvae_platform.cluster.planning import plan_study, prepare_elsewhere
from transvae_platform.errors import SpecError
from transvae_platform.study.load import load_study

FIGURE5 = Path(__file__).parents[2] / "studies" / "figure5_scaling.yaml"


@pytest.fixture
def cluster(monkeypatch):
    """A cluster with 24 GPU slots, as cluster.yaml declares them."""
    monkeypatch.setattr(schedule, "ray_session", lambda address: nullcontext())
    declared = {
        "head": 1.0,
        "cpu_slots": 64.0,
        "gpu_slots": 24.0,
        "gpu_slots_H100": 16.0,
        "gpu_slots_A100": 8.0,
        "node_gpus": 8.0,
        "gpu_memory": 80.0,
    }
    monkeypatch.setattr(schedule.ray, "cluster_resources", lambda: declared)
    return declared


def test_a_trial_that_asks_for_what_no_node_type_has_is_refused(cluster, tmp_path):
    spec = load_study(FIGURE5, ("resources.overrides={'cnn-G': {workers: 32, device: gpu}}",))
    with pytest.raises(SpecError, match="cnn-G asks for 32 GPUs, but the cluster at auto has 24 - lower"):
        plan_study(prepare_elsewhere(spec, tmp_path), tmp_path, "auto")
    assert plan_study(prepare_elsewhere(load_study(FIGURE5), tmp_path), tmp_path, "auto").slots["gpu"] == 24


def test_a_trial_that_no_gpu_of_it_can_hold_is_refused_before_it_waits_for_nodes(cluster, tmp_path):
    prepared = prepare_elsewhere(load_study(FIGURE5), tmp_path)
    cluster["gpu_memory"] = 24.0
    with pytest.raises(SpecError, match=r"cnn-G needs about \d+ GB per GPU of 24 GB"):
        plan_study(prepared, tmp_path, "auto")
    trusted = prepare_elsewhere(load_study(FIGURE5, ("resources.gpu_memory=80",)), tmp_path)
    assert plan_study(trusted, tmp_path, "auto").slots["gpu"] == 24
    del cluster["gpu_memory"]  # a cluster that does not say
    assert plan_study(prepared, tmp_path, "auto").slots["gpu"] == 24


def test_a_study_that_chooses_a_kind_of_gpu_has_the_slots_of_that_kind(cluster, tmp_path):
    def plan(kind):
        changed = load_study(FIGURE5, (f"resources.accelerator={kind}",))
        return plan_study(prepare_elsewhere(changed, tmp_path), tmp_path, "auto").slots["gpu"]

    assert (plan("H100"), plan("A100")) == (16, 8)
    with pytest.raises(SpecError, match=r"resources\.accelerator: no node type .* L40S - its head declares A100, H100"):
        plan("L40S")


def test_a_feature_network_that_does_not_exist_is_refused_in_a_plan_for_elsewhere(tmp_path):
    spec = load_study(
        FIGURE5, ("recipe.losses.vf.features=resnet50", "grid.families={vit: [T]}", "resources.overrides={}")
    )
    with pytest.raises(SpecError, match=r"recipe.losses.vf.features: 'resnet50' is no vision transformer of timm"):
        plan_study(prepare_elsewhere(spec, tmp_path), tmp_path, gpus_elsewhere=8)
