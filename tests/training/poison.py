"""Runs whose loss breaks at chosen steps, and what is left of them."""

from __future__ import annotations

import json
import math

import torch
from tests.training.twins import KilledError

from transvae_platform.training import autoencoding, loop
from transvae_platform.training.checkpoint import CheckpointStore
from transvae_platform.training.tensors import read_tensors

LIMITS = {"window": 8, "after": 4, "patience": 2}
NAN = math.nan


class Poison:
    """Lets steps break or end: `spoil` and `kill` are asked with (step, rewinds), the first step is 1."""

    def __init__(self, monkeypatch):
        self.spoil, self.kill, self.at, self.steps = {}, set(), (0, 0), []
        step, objective = loop.train_step, autoencoding.Criterion.generator

        def train_step(weights, *rest):
            self.at = (weights.step + 1, weights.guard.rewinds)
            self.steps.append(self.at)
            if self.at in self.kill:
                self.kill.remove(self.at)
                raise KilledError
            return step(weights, *rest)

        def forward(module, *arguments):
            total, judged, terms = objective(module, *arguments)
            factor = self.spoil(*self.at) if callable(self.spoil) else self.spoil.get(self.at, 1.0)
            return total * factor, judged * factor, {**terms, "loss": terms["loss"] * factor}

        monkeypatch.setattr(loop, "train_step", train_step)
        monkeypatch.setattr(autoencoding.Criterion, "generator", forward)


def kept(folder):
    return CheckpointStore(folder / "checkpoints", keep=9).steps()


def newest(folder):
    """Every value of the newest checkpoint, by name."""
    with CheckpointStore(folder / "checkpoints", keep=9).verified(kept(folder)[-1]) as path:
        state = json.loads((path / "state.json").read_text())
        tensors = read_tensors(path / "state")
        return {**tensors, **dict(flat(state)), "average": (path / "ema" / "model.safetensors").read_bytes()}


def flat(value, name=""):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}")
    else:
        yield name, value


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert any("exp_avg" in name for name in one)
    assert [name for name, value in one.items() if not _equal(value, other[name])] == []


def _equal(one, other):
    if isinstance(one, torch.Tensor):  # what the guard saw may be no number, on both sides
        return torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
    return one == other
