"""Killing a run in the middle of a step, and comparing it with its uninterrupted twin."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from transvae_platform.data.stream.batches import TrainStream
from transvae_platform.training.checkpoint import CheckpointStore
from transvae_platform.training.tensors import read_tensors


class KilledError(Exception):
    """Stands for a kill: nothing in the loop catches it."""


def last_state(folder: Path) -> tuple[int, dict[str, torch.Tensor], dict[str, Any]]:
    """Weights, average and optimiser of the newest checkpoint, flat, and its other values."""
    with CheckpointStore(folder / "checkpoints", keep=9).newest_good() as found:
        step, path = found
        tensors = read_tensors(path / "state")
        averaged = load_file(path / "ema" / "model.safetensors")
        state = json.loads((path / "state.json").read_text())
    tensors |= {f"average/{key}": value for key, value in averaged.items()}
    return step, tensors, {key: state[key] for key in ("step", "metrics", "best", "parts")}


def assert_same(one: Any, other: Any) -> None:
    """Two of `last_state` are bitwise equal."""
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    assert any(key.startswith("optimizer") for key in one[1])
    assert [key for key in one[1] if not torch.equal(one[1][key], other[1][key])] == []
    assert one[2] == other[2]


def kill_at(monkeypatch: pytest.MonkeyPatch, steps: Iterable[int], stream: type[Any] = TrainStream) -> None:
    """Let the process end in the middle of these steps, once each."""
    left = list(steps)
    read = stream.batch

    def batch(self, step):
        if left and step == left[0]:
            left.pop(0)
            raise KilledError
        return read(self, step)

    monkeypatch.setattr(stream, "batch", batch)
