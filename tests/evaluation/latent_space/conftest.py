"""Latents whose class is known: a data set as `transvae data latents` makes them."""

import numpy as np
import pyarrow as pa
import pytest

from transvae_platform.data.latents.channels import channel_statistics, channel_sums
from transvae_platform.data.sets.local import LocalShelf
from transvae_platform.data.sets.manifest import Manifest
from transvae_platform.data.sets.samples import SampleSet
from transvae_platform.data.sets.shards import Field, write_shard
from transvae_platform.evaluation.latent_space.vectors import Latents

CHANNELS, SIDE = 3, 2


@pytest.fixture
def latents(tmp_path):
    """(train, validation) latents of three classes, 5 + 0.5 x (class in one channel) and noise."""

    def make(count=300, noise=0.3, labelled=True):
        random = np.random.default_rng(0)
        shards, statistics = [], {}
        fields = [Field(name, (CHANNELS, SIDE, SIDE), "float32") for name in ("latent", "latent_flip")]
        for split in ("train", "validation"):
            labels = random.integers(0, 3, count)
            values = 5 + noise * random.normal(size=(count, CHANNELS, SIDE, SIDE))
            values[np.arange(count), labels] += 0.5
            values = values.astype(np.float32)
            columns = {"item": pa.array(range(count)), "label": pa.array((labels + 10).astype(np.int32))}
            if not labelled:
                del columns["label"]
            arrays = dict(zip(fields, (values, values[..., ::-1].copy()), strict=True))
            shards.append(write_shard(tmp_path / f"{split}.arrow", split, arrays, columns))
            if split == "train":
                statistics = channel_statistics([channel_sums(values, "mean")])
        settings = {"resolution": 16, "dtype": "float32", "content": "mean"}
        manifest = Manifest(
            "f" * 16, "latents", tuple(fields), 2 * count, tuple(shards), (), settings, {}, {}, statistics
        )
        return [Latents(SampleSet(manifest, LocalShelf(tmp_path), split)) for split in ("train", "validation")]

    return make
