"""A split of few pictures, and models whose output is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from torch import Tensor, nn

from transvae_platform.data.sets.manifest import Manifest
from transvae_platform.data.sets.samples import LocalShelf, SampleSet
from transvae_platform.data.sets.shards import image_field, write_shard

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
    field = image_field(RESOLUTION)
    shard = write_shard(tmp_path / "v.arrow", "validation", {field: images}, {"item": pa.array(range(len(images)))})
    settings = {"resolution": RESOLUTION}
    manifest = Manifest("f", "images", (field,), len(images), (shard,), (), settings, {}, {})
    return SampleSet(manifest, LocalShelf(tmp_path), "validation")
