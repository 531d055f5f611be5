"""A split of few pictures, and models whose output is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from transvae import create_model
from transvae.losses.frozen import Frozen, Origin
from transvae_platform.data.sets.catalogue import DataSet
from transvae_platform.data.sets.local import LocalShelf
from transvae_platform.data.sets.manifest import Manifest, write_manifest
from transvae_platform.data.sets.samples import SampleSet
from transvae_platform.data.sets.shards import image_field, write_shard
from transvae_platform.evaluation import finish, measure

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


class FewFeatures(Frozen):
    """Eight numbers of each picture in place of Inception's 2048: fast, and different for different pictures."""

    def __init__(self) -> None:
        super().__init__(Origin("few", "random", seed=0))

    def forward(self, levels_B3HW: Tensor) -> Tensor:
        grey_BHW = levels_B3HW.float().mean(1) / 255
        rows = grey_BHW.unflatten(1, (4, -1)).mean((2, 3))
        columns = grey_BHW.unflatten(2, (4, -1)).square().mean((1, 3))
        return torch.cat([rows, columns], 1)


@pytest.fixture
def few_features(monkeypatch) -> None:
    """Evaluations take eight features per picture, and no time."""
    monkeypatch.setattr(measure, "load_inception", lambda *arguments: FewFeatures())
    monkeypatch.setattr(finish, "DIMENSION", 8)


SIDE, PER_SHARD = 16, 4


@pytest.fixture
def pictures(tmp_path) -> DataSet:
    """Ten smooth pictures of 16 x 16 in three shards, as an ingest makes them."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    coarse = torch.rand(10, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear") * 255
    pixels = smooth.permute(0, 2, 3, 1).round().to(torch.uint8).numpy()
    shards = []
    for number, start in enumerate(range(0, 10, PER_SHARD)):
        rows = np.arange(start, min(start + PER_SHARD, 10))
        columns = {"item": pa.array(rows // 2), "view": pa.array((rows % 2).astype(np.int32))}
        path = folder / f"validation-{number:05d}.arrow"
        shards.append(write_shard(path, "validation", {image_field(SIDE): pixels[rows]}, columns))
    settings = {"resolution": SIDE, "view": {"kind": "centre", "geometry": "shorter_side_bilinear"}}
    manifest = Manifest(
        "a" * 16, "images", (image_field(SIDE),), 5, tuple(shards), (), settings, {"layout": "folder"}, {}
    )
    write_manifest(folder, manifest)
    return DataSet(manifest, str(folder), ("pictures",))


@pytest.fixture
def model_folder(tmp_path) -> Path:
    torch.manual_seed(0)
    create_model("vit-micro-T/f8d8").save_pretrained(tmp_path / "model")
    return tmp_path / "model"
