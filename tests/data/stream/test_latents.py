"""Batches of stored latents: the right one of the two, with its label, normalised as LightningDiT does it."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch

from transvae_platform.data.latents.channels import channel_statistics, channel_sums, to_float32, to_stored
from transvae_platform.data.sets.local import LocalShelf
from transvae_platform.data.sets.manifest import Manifest, write_manifest
from transvae_platform.data.sets.mixture import open_training_data
from transvae_platform.data.sets.samples import SampleSet
from transvae_platform.data.sets.shards import Field, write_shard
from transvae_platform.data.sets.transfer import copy_set
from transvae_platform.data.stream.batches import Ahead
from transvae_platform.data.stream.hashing import coin_flips
from transvae_platform.data.stream.latents import ChannelScale, LatentStream
from transvae_platform.errors import SpecError, UserError
from transvae_platform.study.data_spec import RandomCrop, Sampling

SHAPE, RECORDS = (3, 2, 2), (7, 5, 9)


@pytest.fixture
def make(tmp_path):
    """A data set of latents in three shards: (folder, manifest, straight, mirrored, labels)."""

    def write(name="aa", dtype="float16", seed=0, labels=True, **settings):
        folder = tmp_path / name
        folder.mkdir()
        random, fields = np.random.default_rng(seed), tuple(Field(n, SHAPE, dtype) for n in ("latent", "latent_flip"))
        values = torch.from_numpy(random.normal(seed + 1, 2, (2, sum(RECORDS), *SHAPE)).astype(np.float32))
        stored, classes, shards = to_stored(values, dtype), random.integers(0, 1000, sum(RECORDS)), []
        for number, (count, end) in enumerate(zip(RECORDS, np.cumsum(RECORDS), strict=True)):
            rows = slice(end - count, end)
            known = pa.array(classes[rows], pa.int32(), mask=np.arange(count) == (-1 if labels else 0))
            columns = {"item": pa.array(range(end - count, end)), "label": known}
            arrays = dict(zip(fields, stored[:, rows], strict=True))
            shards.append(write_shard(folder / f"train-{number}.arrow", "train", arrays, columns))
        statistics = channel_statistics([channel_sums(to_float32(stored[0], dtype), "sample")])
        settings = {"resolution": 16, "content": "sample", "dtype": dtype, "model": {"weights_sha256": "1"}} | settings
        manifest = Manifest(name, "latents", fields, 21, tuple(shards), (), settings, {}, {}, statistics)
        write_manifest(folder, manifest)
        return folder, manifest, *stored, classes

    return write


def opened(made, tmp_path, *others):
    return open_training_data([(str(one[0]), 1.0) for one in (made, *others)], tmp_path, 10**9)[0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_each_sample_is_its_latent_or_by_its_coin_that_of_the_mirrored_image(make, tmp_path, dtype):
    made = make(dtype=dtype)
    _, _, straight, mirrored, labels = made
    train, seen = opened(made, tmp_path), set()
    both, plain = (LatentStream(train, Sampling(flip=flip), batch_size=8, seed=5) for flip in (True, False))
    for step in range(6):
        ids, epochs = train.order().ids_at(np.arange(8 * step, 8 * step + 8), 5)
        coins = coin_flips(5, ids, epochs)
        batch, unflipped = both.batch(step), plain.batch(step)
        expected = np.where(coins[:, None, None, None], mirrored[ids], straight[ids])
        assert batch.latents.dtype == getattr(torch, dtype)
        assert (batch.latents.float().numpy() == to_float32(expected, dtype)).all()
        assert (unflipped.latents.float().numpy() == to_float32(straight[ids], dtype)).all()
        assert batch.labels.dtype == torch.int64
        assert batch.labels.tolist() == labels[ids].tolist()
        seen |= set(coins.tolist())
    assert seen == {True, False}


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_slices_of_all_ranks_are_the_global_batch(make, tmp_path, world):
    train = opened(make(), tmp_path)
    for step in (0, 2, 700):
        whole = LatentStream(train, Sampling(), batch_size=8, seed=1).batch(step)
        ranks = [LatentStream(train, Sampling(), batch_size=8, seed=1, rank=r, world=world) for r in range(world)]
        parts = [Ahead(rank).batch(step) for rank in ranks]
        assert torch.equal(torch.cat([part.latents for part in parts]), whole.latents)
        assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)


def test_latents_on_a_store_with_few_shards_open_are_the_local_ones(make, tmp_path):
    made = make()
    location = f"memory://{tmp_path.name}/latents"
    list(copy_set(made[0], made[1], location))
    most = max(shard.bytes for shard in made[1].shards)
    far, _ = open_training_data([(location, 1.0)], tmp_path / "cache", 2 * most)
    near = opened(made, tmp_path)
    streams = [LatentStream(samples, Sampling(shuffle_window=1), batch_size=8, seed=3) for samples in (far, near)]
    for step in range(8):
        one, other = (stream.batch(step) for stream in streams)
        assert torch.equal(one.latents, other.latents)
        assert torch.equal(one.labels, other.labels)


def test_normalised_channels_have_mean_0_and_deviation_1_and_come_back(make, tmp_path):
    train = opened(make(dtype="float32"), tmp_path)
    stream = LatentStream(train, Sampling(flip=False), batch_size=21, seed=0)
    scale = ChannelScale.of(train).to(torch.device("cpu"))
    z_BCHW, y_B = scale.model_input(stream.batch(0))
    assert z_BCHW.dtype == torch.float32
    assert torch.allclose(z_BCHW.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(z_BCHW.std((0, 2, 3)), torch.ones(3), atol=1e-5)
    assert torch.allclose(scale.restore(z_BCHW), stream.batch(0).latents, atol=1e-5)
    assert y_B.tolist() == stream.batch(0).labels.tolist()


def test_mixture_is_one_gather_and_one_scale_of_all_its_samples(make, tmp_path):
    parts = make("aa", "float32"), make("bb", "float32", seed=4)
    train = opened(parts[0], tmp_path, parts[1])
    ids = np.array([41, 0, 21, 20, 7])
    whole, flipped, labels = (np.concatenate([part[place] for part in parts]) for place in (2, 3, 4))
    assert (train.read(ids, "latent") == whole[ids]).all()
    choice = np.array([0, 1, 1, 0, 1])
    expected = np.where(choice[:, None, None, None] == 1, flipped[ids], whole[ids])
    assert (train.read(ids, "latent", "latent_flip", choice_B=choice) == expected).all()
    assert train.labels(ids).tolist() == labels[ids].tolist()
    scale = ChannelScale.of(train)
    assert np.allclose(scale.mean[:, 0, 0], whole.mean((0, 2, 3)), atol=1e-5)
    assert np.allclose(scale.std[:, 0, 0], whole.std((0, 2, 3)), rtol=0.02)  # unbiased within the parts


@pytest.mark.parametrize(
    ("change", "message"),
    [({"dtype": "float32"}, "fields of aa and bb differ"), ({"content": "mean"}, "content of aa and bb differ"),
     ({"model": {"weights_sha256": "2"}}, "model of aa and bb differ")],
)  # fmt: skip
def test_parts_that_mean_something_else_are_refused(make, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        opened(make("aa"), tmp_path, make("bb", **change))


def test_what_is_no_latent_cannot_be_drawn(make, tmp_path):
    train = opened(make(), tmp_path)
    with pytest.raises(SpecError, match="`crop` and `buckets` are for images"):
        LatentStream(train, Sampling(crop=RandomCrop(size=8)), batch_size=4, seed=0)
    with pytest.raises(UserError, match="bb holds posterior, generators train on latents"):
        LatentStream(opened(make("bb", content="posterior"), tmp_path), Sampling(), batch_size=4, seed=0)


def test_missing_labels_and_statistics_are_named(make, tmp_path):
    folder, manifest, *_ = make(labels=False)
    train = SampleSet(manifest, LocalShelf(folder), "train")
    with pytest.raises(UserError, match=r"train-\d.arrow of aa: 1 of \d records have no label"):
        LatentStream(train, Sampling(), batch_size=4, seed=0).batch(0)
    for statistics, message in (({}, "no statistics"), ({"mean": [0.0], "std": [0.0]}, "a channel that never changes")):
        other = dataclasses.replace(manifest, statistics=statistics)
        with pytest.raises(UserError, match=message):
            ChannelScale.of(SampleSet(other, LocalShelf(folder), "train"))


def test_shard_that_is_not_the_manifests_is_refused_before_it_is_read(make, tmp_path):
    folder, manifest, *_ = make()
    (folder / "train-0.arrow").write_bytes((folder / "train-1.arrow").read_bytes())
    with pytest.raises(UserError, match=r"holds 5 records, its manifest says 7 - see `"):
        SampleSet(manifest, LocalShelf(folder), "train").read(np.array([6]), "latent")
    with pytest.raises(UserError, match=r"no array 'image' - there are: latent, latent_flip"):
        SampleSet(manifest, LocalShelf(folder), "train").read(np.array([8]))
    with pytest.raises(IndexError, match="not all below 21"):
        SampleSet(manifest, LocalShelf(folder), "train").read(np.array([21]), "latent")
