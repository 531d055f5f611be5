"""Equal blocks are counted once and nothing is lost: against counts that run every block."""

from contextlib import contextmanager

import pytest
from torch import nn

from transvae import accounting, memory
from transvae.autoencoder import Autoencoder
from transvae.registry import model_config
from transvae.repeated import kind


@contextmanager
def every_block(model, meter, runs=1):
    yield lambda: 0


NAMES = [f"{family}-micro-{size}/f8d8" for family in ("transvae", "cnn", "vit", "swin") for size in "TG"]


@pytest.mark.parametrize("name", NAMES)
def test_flops_and_memory_are_those_of_every_block(name, monkeypatch):
    config = model_config(name)

    def counts():
        accounting.count_model.cache_clear()
        kept = [
            memory.count_activations(config, config.resolution, bf16=bf16, checkpointing=checkpointing)
            for bf16, checkpointing in ((True, False), (False, True))
        ]
        return accounting.count_model(config), kept

    quick = counts()
    monkeypatch.setattr(accounting, "equal_blocks_once", every_block)
    monkeypatch.setattr(memory, "equal_blocks_once", every_block)
    assert counts() == quick


def test_a_model_is_as_before():
    model = Autoencoder(model_config("vit-micro-G/f8d8"), device="meta")
    names = [name for name, _ in model.named_parameters()]
    with accounting.equal_blocks_once(model, lambda: 0):
        pass
    assert [name for name, _ in model.named_parameters()] == names


def test_blocks_that_differ_in_a_setting_or_a_shape_are_of_another_kind():
    assert kind(nn.Linear(2, 3)) == kind(nn.Linear(2, 3))
    assert kind(nn.Linear(2, 3)) != kind(nn.Linear(3, 2))
    assert kind(nn.GroupNorm(2, 4)) != kind(nn.GroupNorm(1, 4))
    assert kind(nn.Sequential(nn.SiLU(), nn.Linear(2, 2))) != kind(nn.Sequential(nn.ReLU(), nn.Linear(2, 2)))
    shifted, straight = nn.Identity(), nn.Identity()
    shifted.shift = 4
    assert kind(shifted) != kind(straight)
