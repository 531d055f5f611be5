"""A split of few pictures, and models whose output is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from torch import Tensor, nn

from transvae_platform.data.shards import Manifest, write_shard
from transvae_platform.data.stream import SampleSet

RESOLUTION = 24


class Shifted(nn.Module):
    """Returns its input, brighter by a constant in [-1, 1] units."""

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x + self.shift, x, x


@pytest.fixture
def shifted() -> Callable[..., nn.Module]:
    return Shifted


@pytest.fixture
def images() -> np.ndarray:
    """Seven pictures whose values leave room for a shift."""
    return np.random.default_rng(0).integers(30, 200, (7, RESOLUTION, RESOLUTION, 3), np.uint8)


@pytest.fixture
def samples(tmp_path, images) -> SampleSet:
    shard = write_shard(tmp_path / "v.arrow", "validation", images, np.zeros(len(images), np.int32))
    return SampleSet(tmp_path, Manifest("f", RESOLUTION, 1, (shard,), ()), "validation")
