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
    monkeypatch.setattr(schedule, "cluster_devices", lambda: (64, 24))


def test_a_trial_that_asks_for_what_no_node_type_has_is_refused(cluster, tmp_path):
    spec = load_study(FIGURE5, ("resources.overrides={'cnn-G': {workers: 32, device: gpu}}",))
    with pytest.raises(SpecError, match="cnn-G asks for 32 GPUs, but the cluster at auto has 24 - lower"):
        plan_study(prepare_elsewhere(spec, tmp_path), tmp_path, "auto")
    assert plan_study(prepare_elsewhere(load_study(FIGURE5), tmp_path), tmp_path, "auto").slots["gpu"] == 24


def test_a_feature_network_that_does_not_exist_is_refused_in_a_plan_for_elsewhere(tmp_path):
    spec = load_study(
        FIGURE5, ("recipe.losses.vf.features=resnet50", "grid.families={vit: [T]}", "resources.overrides={}")
    )
    with pytest.raises(SpecError, match=r"recipe.losses.vf.features: 'resnet50' is no vision transformer of timm"):
        plan_study(prepare_elsewhere(spec, tmp_path), tmp_path, gpus_elsewhere=8)
