"""Whatever is drawn - world, batch, seed, step - an epoch holds every sample once, and a resume continues it."""

import time
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transvae_platform.data.sets.local import LocalShelf
from transvae_platform.data.sets.manifest import Manifest
from transvae_platform.data.sets.samples import SampleSet
from transvae_platform.data.sets.shards import Field, image_field, write_shard
from transvae_platform.data.stream.batches import TrainStream
from transvae_platform.data.stream.latents import LatentStream
from transvae_platform.data.stream.order import FullOrder, ShardOrder
from transvae_platform.data.stream.turns import Turns
from transvae_platform.study.data_spec import Sampling

COUNT, SHARD = 40, 13
SEEDS = st.integers(0, 2**31 - 1)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """The same 40 samples as images and as latents; each value says which sample it is of, and which of its sides."""
    opened, label = {}, np.arange(COUNT)
    for kind, fields in {
        "images": (image_field(8),),
        "latents": (Field("latent", (2, 1, 1), "float16"), Field("latent_flip", (2, 1, 1), "float16")),
    }.items():
        folder, shards = tmp_path_factory.mktemp(kind), []
        for start in range(0, COUNT, SHARD):
            ids = label[start : start + SHARD]
            arrays = {
                one: np.broadcast_to((ids + COUNT * side)[:, None, None, None], (len(ids), *one.shape)).astype(
                    one.dtype
                )
                for side, one in enumerate(fields)
            }
            columns = {"item": pa.array(ids), "label": pa.array(ids, pa.int32())}
            shards.append(write_shard(folder / f"train-{start}.arrow", "train", arrays, columns))
        described = {"resolution": 8, "content": "sample", "dtype": "float16"}
        manifest = Manifest("ab", kind, fields, COUNT, tuple(shards), (), described, {}, {})
        opened[kind] = SampleSet(manifest, LocalShelf(folder), "train")
    return opened


def seen_at(kind, samples, step, world, **options):
    """(sample, side) of every record that the ranks get at a step, in their order."""
    found = []
    for rank in range(world):
        if kind == "images":
            batch = TrainStream(samples, rank=rank, world=world, **options).batch(step)
            values, side = batch.images[:, 0, 0, 0].numpy(), batch.mirrored.numpy()
        else:
            batch = LatentStream(samples, rank=rank, world=world, **options).batch(step)
            side, values = np.divmod(batch.latents[:, 0, 0, 0].numpy().astype(np.int64), COUNT)
            assert batch.labels.tolist() == values.tolist()
        assert values.tolist() == batch.ids.tolist()
        found += list(zip(values.tolist(), side.astype(bool).tolist(), strict=True))
    return found


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(["images", "latents"]), world=st.integers(1, 8), share=st.integers(1, 5), seed=SEEDS,
    window=st.none() | st.integers(1, 3), epoch=st.integers(0, 10**6), data=st.data(),
)  # fmt: skip
def test_every_epoch_exactly_once_in_any_world_and_any_resume(sets, kind, world, share, seed, window, epoch, data):
    samples, batch_size = sets[kind], world * share
    if batch_size > COUNT:
        world, batch_size = 1, share
    options = {"sampling": Sampling(shuffle_window=window), "batch_size": batch_size, "seed": seed}
    first, last = epoch * COUNT // batch_size, ((epoch + 1) * COUNT - 1) // batch_size
    resume = data.draw(st.integers(first, last), label="resume step")
    # one process that goes through the whole epoch, against `world` new ones at the step where they resume
    make = TrainStream if kind == "images" else LatentStream
    walking = make(samples, **options)
    ids = np.concatenate([walking.batch(step).ids for step in range(first, last + 1)])
    skipped = epoch * COUNT - first * batch_size
    assert sorted(ids[skipped : skipped + COUNT].tolist()) == list(range(COUNT))
    resumed = seen_at(kind, samples, resume, world, **options)
    assert resumed == seen_at(kind, samples, resume, 1, **options)
    place = (resume - first) * batch_size
    assert [sample for sample, _ in resumed] == ids[place : place + batch_size].tolist()


@dataclass
class Million:
    """A million samples that only count."""

    window: int | None = None
    expected: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return 10**6

    def order(self, window=None):
        return FullOrder(10**6) if window is None else ShardOrder([4096] * 244 + [576], window)

    def expect(self, ids):
        self.expected.append(len(ids))


@pytest.mark.parametrize("window", [None, 16])
def test_million_samples_once_an_epoch_and_any_step_at_once(window):
    samples = Million()
    walking = Turns(samples, window, 1000, seed=3, rank=0, world=1)
    ids = np.concatenate([walking.at(step)[0] for step in range(1000, 2000)])
    assert (np.bincount(ids, minlength=10**6) == 1).all()
    steps = (1000, 1777, 1999)
    used = []
    for step in steps:
        start = time.process_time()
        resumed = np.concatenate([Turns(samples, window, 1000, 3, rank, 8).at(step)[0] for rank in range(8)])
        used.append(time.process_time() - start)
        assert resumed.tolist() == ids[1000 * (step - 1000) : 1000 * (step - 999)].tolist()
    far = 10**9  # an epoch far away costs as much as the first
    start = time.process_time()
    Turns(samples, window, 1000, 3, 0, 8).at(far)
    assert time.process_time() - start < max(1.0, 10 * max(used))
