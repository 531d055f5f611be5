"""Batches: slices of one global order, read from memory-mapped shards, mirrored and cropped by keyed draws."""

import threading

import numpy as np
import pytest
import torch

from transvae_platform.data.making import images as module
from transvae_platform.data.pixels.augment import random_resized_crop
from transvae_platform.data.pixels.geometry import resize
from transvae_platform.data.sets.local import LocalShelf
from transvae_platform.data.sets.samples import SampleSet, open_data
from transvae_platform.data.sets.shards import ShardFile
from transvae_platform.data.stream.batches import Ahead, TrainStream, to_model_input
from transvae_platform.data.stream.hashing import coin_flips
from transvae_platform.errors import UserError
from transvae_platform.study.data_spec import Bucket, RandomCrop, Sampling


@pytest.fixture
def made(photos, section, make_set, monkeypatch):
    """(folder, manifest) with 28 training samples in several shards."""
    monkeypatch.setattr(module, "SHARD_RECORDS", 8)
    data = section(photos(8), holdout=["p3"], view={"kind": "crops", "per_photograph": 4})
    folder, manifest = make_set(data)
    assert sum(shard.split == "train" for shard in manifest.shards) > 2
    return folder, manifest


@pytest.fixture
def train(made):
    return SampleSet(made[1], LocalShelf(made[0]), "train")


def stream(samples, sampling=None, **changes):
    return TrainStream(samples, sampling or Sampling(), **{"batch_size": 8, "seed": 5, **changes})


def order(samples, step, window=None):
    return samples.order(window).ids_at(np.arange(8 * step, 8 * step + 8), 5)


def test_random_access_equals_the_shards_end_to_end(train, made):
    whole = np.concatenate([ShardFile(path).array("image") for path in sorted(made[0].glob("train-*.arrow"))])
    assert len(train) == len(whole) == 28
    ids = np.array([27, 0, 8, 7, 7, 15, 16, 23, 24])
    assert (train.read(ids) == whole[ids]).all()
    train.read(ids)[:] = 0  # a copy
    assert (train.read(ids) == whole[ids]).all()
    train.read(ids[:1])[:] = 0  # also of a single shard
    assert (train.read(ids[:1]) == whole[ids[:1]]).all()


def test_columns_of_samples(train):
    ids = np.array([27, 0, 8])
    assert train.column(ids, "item") == [7, 0, 2]
    assert train.column(ids, "view") == [3, 0, 0]
    assert train.column(ids, "caption") == [None, None, None]


def test_sides_are_opened_apart(made, tmp_path):
    opened, validation = open_data(str(made[0]), tmp_path, 10**9)
    assert (len(opened), len(validation)) == (28, 4)


def test_validation_may_read_the_middle_of_larger_samples(made, tmp_path):
    _, whole = open_data(str(made[0]), tmp_path, 10**9)
    _, middle = open_data(str(made[0]), tmp_path, 10**9, centre=10)
    ids = np.arange(4)
    assert (middle.read(ids) == whole.read(ids)[:, 3:13, 3:13]).all()


def test_opening_a_data_set_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="holds no finished data set - is the study's home on a shared file system"):
        open_data(str(tmp_path / "x"), tmp_path, 10**9)


@pytest.mark.parametrize("window", [None, 1, 2])
@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_slices_of_all_ranks_are_the_global_batch(train, world, window):
    sampling = Sampling(shuffle_window=window, crop=RandomCrop(size=12))
    for step in (0, 3, 17, 700):  # step 3 crosses the edge of an epoch, 700 that of a block of ids
        whole = stream(train, sampling).batch(step)
        parts = [stream(train, sampling, rank=rank, world=world).batch(step) for rank in range(world)]
        assert np.concatenate([part.ids for part in parts]).tolist() == whole.ids.tolist()
        assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
        assert torch.equal(torch.cat([part.mirrored for part in parts]), whole.mirrored)
        assert whole.ids.tolist() == order(train, step, window)[0].tolist()


def test_samples_are_mirrored_left_to_right_by_their_coin(train):
    plain, mirrored = stream(train, Sampling(flip=False)), stream(train)
    cpu, seen = torch.device("cpu"), set()
    for step in range(6):
        ids, epochs = order(train, step)
        batch = mirrored.batch(step)
        assert (batch.images.numpy() == train.read(ids)).all()
        assert not plain.batch(step).mirrored.any()
        straight, x = to_model_input(batch.images, cpu), to_model_input(batch.images, cpu, batch.mirrored)
        assert x.is_contiguous(memory_format=torch.channels_last)
        for image, original, flip in zip(x, straight, coin_flips(5, ids, epochs), strict=True):
            assert torch.equal(image, original.flip(2) if flip else original)
            seen.add(bool(flip))
    assert seen == {True, False}


def test_samples_are_cropped_by_their_own_draw(train):
    crop = RandomCrop(size=12, scale=(0.3, 0.9))
    for step in (0, 5):
        ids, epochs = order(train, step)
        expected = random_resized_crop(train.read(ids), ids, epochs, 5, 12, crop.scale, crop.ratio)
        assert (stream(train, Sampling(flip=False, crop=crop)).batch(step).images.numpy() == expected).all()


def test_order_of_steps_does_not_matter(train):
    steps = [600, 0, 513, 1, 511, 512, 1024, 2]
    walked = {step: stream(train).batch(step).images for step in steps}
    jumping = stream(train)
    for step in sorted(steps):
        assert torch.equal(jumping.batch(step).images, walked[step])


@pytest.mark.parametrize("start", [0, 37, 512])
def test_what_comes_next_is_expected_from_the_first_step_on(train, start):
    expected = []
    train.expect = expected.append
    near = stream(train)
    near.batch(start)
    assert (expected[0][:16] == np.concatenate([order(train, step)[0] for step in (start, start + 1)])).all()
    for step in range(start + 1, start + 512):
        near.batch(step)
    assert len(expected) == 8 + (start == 37)  # a few times a block, not at every step
    assert min(map(len, expected)) > 4096


def test_fewer_samples_than_a_batch_are_refused(train):
    stream(train, batch_size=28)
    with pytest.raises(UserError, match="data: 28 training samples are fewer than one batch of 29 - add images"):
        stream(train, batch_size=29)


def test_next_batch_is_read_by_a_thread_and_is_the_right_one(train):
    plain = stream(train)
    readers = []

    class Noted:
        def batch(self, step):
            readers.append(threading.current_thread())
            return plain.batch(step)

    ahead = Ahead(Noted())
    for step in (0, 1, 2, 9, 10, 3):  # a jump discards what was read ahead
        assert torch.equal(ahead.batch(step).images, plain.batch(step).images)
    assert threading.main_thread() not in readers


def test_reader_that_fails_fails_the_training(train):
    class Broken:
        def batch(self, step):
            if step == 2:
                raise OSError("gone")
            return stream(train).batch(step)

    ahead = Ahead(Broken())
    ahead.batch(0)
    ahead.batch(1)
    with pytest.raises(OSError, match="gone"):
        ahead.batch(2)


def test_what_failed_is_read_anew_when_it_is_asked_for_again(train):
    asked = []

    class Shaky:
        def batch(self, step):
            asked.append(step)
            if asked.count(1) == 1 and step == 1:
                raise OSError("gone")
            return stream(train).batch(step)

    ahead = Ahead(Shaky())
    ahead.batch(0)
    with pytest.raises(OSError, match="gone"):
        ahead.batch(1)
    assert torch.equal(ahead.batch(1).images, stream(train).batch(1).images)


@pytest.mark.parametrize("crop", [None, RandomCrop(size=16)])
def test_steps_alternate_between_sizes_and_keep_the_order_of_samples(train, crop):
    sampling = Sampling(crop=crop, buckets=(Bucket(size=16, share=3), Bucket(size=8)))
    one, many = stream(train, Sampling(crop=crop)), stream(train, sampling)
    sizes = []
    for step in range(40):
        batch, plain = many.batch(step), one.batch(step)
        assert batch.ids.tolist() == plain.ids.tolist()
        assert torch.equal(batch.mirrored, plain.mirrored)
        sizes.append(batch.images.shape[1])
        if sizes[-1] == 16:
            assert torch.equal(batch.images, plain.images)
        elif crop is None:
            assert (batch.images[0].numpy() == resize(plain.images[0].numpy(), 8, 8)).all()
    assert batch.images.shape[1:] == (sizes[-1], sizes[-1], 3)
    assert 4 <= sizes.count(8) <= 16  # a quarter of 40, drawn from 1024 that hold exactly a quarter
    slices = [stream(train, sampling, rank=rank, world=2).batch(7).images for rank in range(2)]
    assert torch.equal(torch.cat(slices), many.batch(7).images)


def test_model_input_is_channels_first_in_minus_one_to_one():
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).repeat(2, 4, 6, 1)
    x = to_model_input(images, torch.device("cpu"))
    assert x.shape == (2, 3, 4, 6)
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(x[0, :, 0, 0], torch.tensor([-1.0, 1.0, -0.6]))
