"""The same loop on a CUDA device, in bf16. Run with `pytest -m gpu` on a machine that has one."""

import pytest
import torch

from transvae_platform.world import World

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("family", ["transvae", "cnn", "vit", "swin"])
def test_every_family_trains_on_the_device(trial, train, records, family):
    cell = trial(grid__families={family: ["T"]}, recipe__precision="bf16", recipe__steps=24)
    metrics = train(cell, world=World(device=torch.device("cuda")))
    steps = [record for record in records() if record["event"] == "step"]
    assert steps[-1]["metrics"]["train/l1"] < steps[0]["metrics"]["train/l1"]
    assert metrics["val/psnr"] > 5


def test_the_device_and_the_attention_kernel_are_reported(trial, train, records):
    train(trial(recipe__precision="bf16"), world=World(device=torch.device("cuda")))
    (started,) = [record for record in records() if record["event"] == "started"]
    assert started["device"] == torch.cuda.get_device_name()
    assert started["attention"] in ("flash-attn", "sdpa", "sdpa+FA3", "sdpa+FA4")
