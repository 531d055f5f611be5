"""Shards are plain Arrow files that need none of our code."""

import hashlib
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from transvae_platform.data.sets import uncached
from transvae_platform.data.sets.shards import Field, Shard, ShardFile, image_field, write_shard

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
COLUMNS = {"item": pa.array([0, 0, 3, 3, 7]), "caption": pa.array(["a", None, "ä", "", "e"])}


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "train-00000.arrow"
    return path, write_shard(path, "train", {image_field(8): IMAGES}, COLUMNS)


def test_round_trip(shard):
    path, described = shard
    file = ShardFile(path)
    assert len(file) == 5
    assert file.fields == (Field("image", (8, 8, 3), "uint8"),)
    assert (file.array("image") == IMAGES).all()
    assert file.column("caption").to_pylist() == ["a", None, "ä", "", "e"]
    assert file.column("label") is None
    content = path.read_bytes()
    assert described == Shard("train-00000.arrow", "train", 5, len(content), hashlib.sha256(content).hexdigest())
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("dtype", "stored"), [("float16", "float16"), ("bfloat16", "uint16"), ("float32", "float32"), ("int8", "int8")]
)
def test_arrays_of_every_kind_beside_each_other(tmp_path, dtype, stored):
    values = (np.arange(2 * 4 * 3 * 3) % 100).reshape(2, 4, 3, 3).astype(stored)
    latent, twin = Field("latent", (4, 3, 3), dtype), Field("latent_flip", (4, 3, 3), dtype)
    write_shard(tmp_path / "s.arrow", "train", {latent: values, twin: values[..., ::-1]}, {"item": pa.array([5, 6])})
    file = ShardFile(tmp_path / "s.arrow")
    assert file.fields == (latent, twin)
    assert (file.array("latent") == values).all()
    assert (file.array("latent_flip") == values[..., ::-1]).all()
    with pytest.raises(KeyError, match="no array 'image' - there are: latent, latent_flip"):
        file.array("image")


def test_part_of_a_larger_array_is_written_as_it_is(tmp_path):
    path = tmp_path / "s.arrow"
    write_shard(path, "train", {image_field(8): IMAGES[::2]}, {"item": pa.array([1, 2, 3])})
    assert (ShardFile(path).array("image") == IMAGES[::2]).all()


def test_readable_with_pyarrow_alone(shard):
    with pa.ipc.open_file(str(shard[0])) as file:
        table = file.read_all()
    assert {name: str(table.schema.field(name).type) for name in table.column_names} == {
        "item": "int64", "caption": "string", "image": "fixed_size_binary[192]",
    }  # fmt: skip
    assert json.loads(table.schema.metadata[b"arrays"]) == [{"name": "image", "shape": [8, 8, 3], "dtype": "uint8"}]
    assert table["image"][2].as_py() == IMAGES[2].tobytes()


def test_readable_with_pandas_alone(shard):
    frame = pd.read_feather(shard[0])
    assert frame["item"].tolist() == [0, 0, 3, 3, 7]
    assert (np.frombuffer(frame["image"][4], np.uint8).reshape(8, 8, 3) == IMAGES[4]).all()


def test_equal_records_make_equal_bytes(tmp_path):
    described = [
        write_shard(tmp_path / name, "train", {image_field(8): IMAGES}, COLUMNS) for name in ("a.arrow", "b.arrow")
    ]
    assert described[0].sha256 == described[1].sha256


def test_shard_that_could_not_be_finished_leaves_nothing(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr(uncached.os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_shard(tmp_path / "s.arrow", "train", {image_field(8): IMAGES}, COLUMNS)
    assert not list(tmp_path.iterdir())
