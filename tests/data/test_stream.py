"""Batches: slices of one global order, read from memory-mapped shards, mirrored by keyed coins."""

import numpy as np
import pytest
import torch

from transvae_platform.data import ingest as module
from transvae_platform.data.order import batch_ids, coin_flips
from transvae_platform.data.shards import read_shard
from transvae_platform.data.stream import SampleSet, TrainStream, open_data, to_model_input
from transvae_platform.errors import UserError


@pytest.fixture
def train(photos, section, make_set, monkeypatch):
    """28 training samples in several shards."""
    monkeypatch.setattr(module, "SAMPLES_PER_SHARD", 8)
    data = section(photos(8), holdout=["p3"], view={"kind": "crops", "per_photograph": 4})
    folder, manifest = make_set(data)
    assert sum(shard.split == "train" for shard in manifest.shards) > 2
    return SampleSet(folder, manifest, "train")


def stream(samples, **changes):
    return TrainStream(samples, **{"batch_size": 8, "seed": 5, "flip": True, **changes})


def test_random_access_equals_the_shards_end_to_end(train, tmp_path):
    (folder,) = (tmp_path / "home" / "data").iterdir()
    whole = np.concatenate([read_shard(path, 16) for path in sorted(folder.glob("train-*.arrow"))])
    assert len(train) == len(whole) == 28
    ids = np.array([27, 0, 8, 7, 7, 15, 16, 23, 24])
    assert (train.read(ids) == whole[ids]).all()
    train.read(ids)[:] = 0  # a copy
    assert (train.read(ids) == whole[ids]).all()


def test_sides_are_opened_apart(train, tmp_path):
    (folder,) = (tmp_path / "home" / "data").iterdir()
    opened, validation = open_data(tmp_path / "home", folder.name)
    assert (len(opened), len(validation)) == (28, 4)


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_slices_of_all_ranks_are_the_global_batch(train, world):
    for step in (0, 3, 17):  # step 3 crosses the edge of an epoch
        whole = stream(train).batch(step)
        parts = [stream(train, rank=rank, world=world).batch(step) for rank in range(world)]
        assert np.concatenate([part.ids for part in parts]).tolist() == whole.ids.tolist()
        assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
        assert whole.ids.tolist() == batch_ids(28, 8, 5, step)[0].tolist()


def test_samples_are_mirrored_left_to_right_by_their_coin(train):
    plain, mirrored = stream(train, flip=False), stream(train)
    seen = set()
    for step in range(6):
        ids, epochs = batch_ids(28, 8, 5, step)
        assert (plain.batch(step).images.numpy() == train.read(ids)).all()
        for image, original, flip in zip(
            mirrored.batch(step).images.numpy(), train.read(ids), coin_flips(5, ids, epochs), strict=True
        ):
            assert (image == (original[:, ::-1] if flip else original)).all()
            seen.add(bool(flip))
    assert seen == {True, False}


def test_fewer_samples_than_a_batch_are_refused(train):
    stream(train, batch_size=28)
    with pytest.raises(UserError, match="data: 28 training samples are fewer than one batch of 29 - add images"):
        stream(train, batch_size=29)


def test_model_input_is_channels_first_in_minus_one_to_one():
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).repeat(2, 4, 6, 1)
    x = to_model_input(images, torch.device("cpu"))
    assert x.shape == (2, 3, 4, 6)
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(x[0, :, 0, 0], torch.tensor([-1.0, 1.0, -0.6]))
