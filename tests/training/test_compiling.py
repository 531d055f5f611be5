"""torch.compile and memory order: as keys of the recipe that change how fast a step is, and no name of a weight."""

import importlib

import pytest
import torch
from tests.training.ranks import as_ranks
from tests.training.test_sharding import ALL, curve, train_rank, work_of
from tests.training.test_stages import state

from transvae_platform.errors import UserError
from transvae_platform.training.autoencoding import Autoencoding
from transvae_platform.training.weights import TrialWeights
from transvae_platform.world import World


@pytest.mark.slow
@pytest.mark.parametrize("family", ["vit", "cnn"])
def test_compiled_blocks_train_as_they_are(trial, train, records, tmp_path, family):
    for name, compiled in (("plain", False), ("compiled", True)):
        train(trial(grid__families={family: ["T"]}, **ALL, recipe__compile=compiled), name)
    plain, compiled = state(tmp_path / "plain"), state(tmp_path / "compiled")
    assert plain.keys() == compiled.keys()
    curves = curve(tmp_path / "plain"), curve(tmp_path / "compiled")
    for step, metrics in curves[0].items():
        assert curves[1][step] == pytest.approx(metrics, rel=2e-3, abs=2e-5)
    for key, value in plain.items():
        if key.startswith("model/"):
            assert (compiled[key] - value).abs().max() < 1e-4, key


@pytest.mark.slow
def test_compiled_blocks_in_parts(home, samples, tmp_path, monkeypatch):
    importlib.import_module("torch._inductor")
    monkeypatch.setattr(torch._inductor.config, "compile_threads", 1)  # forked ranks have no helpers
    for sharding, compiled in (("ddp", False), ("fsdp", True)):
        work = work_of(home, sharding, **ALL, recipe__compile=compiled, recipe__gradient_checkpointing=True)
        as_ranks(2, tmp_path / sharding, train_rank, work, samples, tmp_path / sharding)
    for step, metrics in curve(tmp_path / "ddp").items():
        assert curve(tmp_path / "fsdp")[step]["train/loss"] == pytest.approx(metrics["train/loss"], rel=1e-3)


def test_what_is_compiled_is_the_blocks_of_what_is_trained(trial, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: asked.append(function) or function)
    weights = TrialWeights(Autoencoding(trial(recipe__compile=True), World()))
    blocks = {id(block) for side in (weights.model.encoder, weights.model.decoder) for block in side.trunk.blocks}
    assert {id(method.__self__) for method in asked} == blocks
    assert weights.model.state_dict().keys() == weights.averaged.state_dict().keys()


def test_a_machine_without_a_compiler_says_what_it_needs(trial, train, monkeypatch):
    importlib.import_module("torch._inductor")
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("/nowhere/g++",))
    with pytest.raises(UserError, match=r"recipe.compile: torch.compile needs a C\+\+ compiler .*recipe.compile=false"):
        train(trial(recipe__compile=True))


@pytest.mark.parametrize("last", [True, False])
def test_memory_order_of_convolutions_is_a_key(trial, last):
    weights = TrialWeights(Autoencoding(trial(grid__families={"cnn": ["T"]}, recipe__channels_last=last), World()))
    kernels = [
        parameter for parameter in weights.model.parameters() if parameter.dim() == 4 and parameter.shape[-1] > 1
    ]
    assert kernels
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) == last for kernel in kernels)
