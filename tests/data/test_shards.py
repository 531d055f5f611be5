"""Shards are plain Arrow files that need none of our code; a data set exists once its manifest does."""

import hashlib
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from transvae_platform.data import shards
from transvae_platform.data.shards import (
    Manifest,
    Shard,
    Skipped,
    read_manifest,
    read_shard,
    write_manifest,
    write_shard,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
OWNERS = np.array([0, 0, 3, 3, 7], np.int32)
MANIFEST = Manifest(
    "f" * 16, 8, 3, (Shard("a", "train", 5, "0"), Shard("b", "train", 2, "1"), Shard("c", "validation", 1, "2")),
    (Skipped("x.png", "the file is empty"),),
)  # fmt: skip


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "train-00000.arrow"
    return path, write_shard(path, "train", IMAGES, OWNERS)


def test_round_trip(shard):
    path, described = shard
    assert (read_shard(path, 8) == IMAGES).all()
    assert described == Shard("train-00000.arrow", "train", 5, hashlib.sha256(path.read_bytes()).hexdigest())
    assert list(path.parent.iterdir()) == [path]


def test_part_of_a_larger_array_is_written_as_it_is(tmp_path):
    path = tmp_path / "s.arrow"
    write_shard(path, "train", IMAGES[::2], OWNERS[::2])
    assert (read_shard(path, 8) == IMAGES[::2]).all()


def test_readable_with_pyarrow_alone(shard):
    with pa.ipc.open_file(str(shard[0])) as file:
        table = file.read_all()
    assert {name: str(table.schema.field(name).type) for name in table.column_names} == {
        "id": "int64", "photograph": "int32", "image": "fixed_size_binary[192]",
    }  # fmt: skip
    assert table.schema.metadata == {b"resolution": b"8", b"layout": b"HWC RGB uint8", b"split": b"train"}
    assert table["photograph"].to_pylist() == OWNERS.tolist()
    assert table["image"][2].as_py() == IMAGES[2].tobytes()


def test_readable_with_pandas_alone(shard):
    frame = pd.read_feather(shard[0])
    assert frame["id"].tolist() == [0, 1, 2, 3, 4]
    assert (np.frombuffer(frame["image"][4], np.uint8).reshape(8, 8, 3) == IMAGES[4]).all()


def test_equal_samples_make_equal_bytes(tmp_path):
    described = [write_shard(tmp_path / name, "train", IMAGES, OWNERS) for name in ("a", "b")]
    assert described[0].sha256 == described[1].sha256


def test_manifest_round_trip_and_counts(tmp_path):
    write_manifest(tmp_path, MANIFEST)
    assert read_manifest(tmp_path) == MANIFEST
    assert (MANIFEST.samples("train"), MANIFEST.samples("validation")) == (7, 1)
    assert json.loads((tmp_path / "manifest.json").read_text())["skipped"][0]["name"] == "x.png"


def test_data_set_without_a_manifest_does_not_exist(tmp_path):
    assert read_manifest(tmp_path) is None
    assert read_manifest(tmp_path / "absent") is None


def test_manifest_that_could_not_be_finished_leaves_the_old_one(tmp_path, monkeypatch):
    write_manifest(tmp_path, MANIFEST)

    def fail(values, file, **options):
        file.write('{"fingerprint":')
        raise OSError("No space left on device")

    monkeypatch.setattr(shards.json, "dump", fail)
    with pytest.raises(OSError, match="No space"):
        write_manifest(tmp_path, Manifest("g" * 16, 8, 3, (), ()))
    assert read_manifest(tmp_path) == MANIFEST


def test_shard_that_could_not_be_finished_is_not_there(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr(shards.hashlib, "file_digest", fail)
    with pytest.raises(OSError, match="No space"):
        write_shard(tmp_path / "s.arrow", "train", IMAGES, OWNERS)
    assert not (tmp_path / "s.arrow").exists()
