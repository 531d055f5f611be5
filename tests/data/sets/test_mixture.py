"""Several data sets as one: exact shares, each part in its own order, ids through all of them."""

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from transvae_platform.data.sets.catalogue import DataSet, TrainingData
from transvae_platform.data.sets.manifest import Manifest, write_manifest
from transvae_platform.data.sets.mixture import _refuse_strangers, open_training_data
from transvae_platform.data.sets.shards import image_field, write_shard
from transvae_platform.data.stream.batches import TrainStream
from transvae_platform.errors import UserError
from transvae_platform.study.data_spec import Sampling


@pytest.fixture
def make(tmp_path):
    """A data set whose images are of one colour each: `base` + id for training, 255 for validation."""

    def write(name, count, base):
        folder = tmp_path / name
        folder.mkdir()
        field, shards = image_field(8), []
        for split, colours in (("validation", [255] * 3), ("train", range(base, base + count))):
            images = np.stack([np.full((8, 8, 3), colour, np.uint8) for colour in colours])
            items = pa.array(range(len(images)))
            shards.append(write_shard(folder / f"{split}-0.arrow", split, {field: images}, {"item": items}))
        manifest = Manifest(name, "images", (field,), count + 3, tuple(shards), (), {"resolution": 8}, {}, {})
        write_manifest(folder, manifest)
        return DataSet(manifest, str(folder))

    return write


@pytest.fixture
def parts(make):
    return make("aa11", 40, 0), make("bb22", 10, 100)


def test_training_takes_exact_shares_and_validation_everything(parts, tmp_path):
    places = [(parts[0].location, 3.0), (parts[1].location, 1.0)]
    train, validation = open_training_data(places, tmp_path, 10**9)
    assert (len(train), len(validation)) == (50, 6)
    stream = TrainStream(train, Sampling(flip=False), batch_size=32, seed=2)
    colours = np.concatenate([stream.batch(step).images[:, 0, 0, 0].numpy() for step in range(32)])
    assert ((colours < 100).sum(), (colours >= 100).sum()) == (768, 256)
    assert (validation.read(np.arange(6)) == 255).all()
    # one epoch of the small part after the other, each complete
    small = colours[colours >= 100]
    for epoch in range(25):
        assert sorted(small[10 * epoch : 10 * epoch + 10]) == list(range(100, 110))


def test_ranks_share_a_batch_of_a_mixture(parts, tmp_path):
    train, _ = open_training_data([(part.location, 1.0) for part in parts], tmp_path, 10**9)
    whole = TrainStream(train, Sampling(), batch_size=16, seed=2).batch(7)
    halves = [TrainStream(train, Sampling(), batch_size=16, seed=2, rank=rank, world=2).batch(7) for rank in range(2)]
    assert np.concatenate([half.ids for half in halves]).tolist() == whole.ids.tolist()


def test_one_part_is_the_data_set_itself(parts, tmp_path):
    train, _ = open_training_data([(parts[0].location, 5.0)], tmp_path, 10**9)
    assert len(train) == 40
    assert TrainingData(((parts[0], 5.0),)).fingerprint == "aa11"


def test_fingerprint_depends_on_parts_and_relative_shares(parts, make):
    def fingerprint(*shares):
        return TrainingData(tuple(zip(parts, shares, strict=True))).fingerprint

    assert fingerprint(3.0, 1.0) == fingerprint(6.0, 2.0) != fingerprint(1.0, 1.0)
    assert TrainingData(((parts[0], 1.0), (make("other", 10, 100), 1.0))).fingerprint != fingerprint(1.0, 1.0)
    both = TrainingData(tuple((part, 1.0) for part in parts))
    assert (both.samples("train"), both.samples("validation"), both.items) == (50, 6, 56)


def test_latents_of_other_classes_are_refused(make, tmp_path):
    def latents(name, base, classes, kind="latents"):
        made = make(name, 10, base)
        settings = {"resolution": made.manifest.resolution, "content": "sample", "model": {"weights_sha256": "0"}}
        write_manifest(
            Path(made.location), replace(made.manifest, kind=kind, settings=settings, source={"classes": classes})
        )
        return made.location, 1.0

    animals, tools, unnamed = (latents(f"{n}a", n, c) for n, c in enumerate((["cat", "dog"], ["saw", "axe"], [])))
    with pytest.raises(UserError, match=r"classes of 0a and 1a differ \(\['cat', 'dog'\] and \['saw', 'axe'\]\)"):
        open_training_data([animals, tools], tmp_path, 10**9)
    open_training_data([animals, unnamed], tmp_path, 10**9)
    images = [latents(f"{n}b", n, c, "images") for n, c in enumerate((["cat"], ["saw"]))]
    open_training_data(images, tmp_path, 10**9)  # autoencoders read no labels


@pytest.mark.parametrize("classes", permutations([(), ("cat", "dog"), ("dog", "cat")]))
def test_classes_of_every_two_parts_are_compared(parts, classes):
    latents = [replace(parts[0].manifest, kind="latents", source={"classes": list(names)}) for names in classes]
    with pytest.raises(UserError, match=r"data.parts: classes of"):
        _refuse_strangers(latents)
    _refuse_strangers([latents[classes.index(())], latents[classes.index(("cat", "dog"))]])
