"""Whole data sets between folders and stores: complete or not there, and every damaged shard is found."""

import os
import threading
import uuid

import numpy as np
import pyarrow as pa
import pytest
from pyarrow.fs import LocalFileSystem

from transvae_platform.data.making.verify import find_damage
from transvae_platform.data.sets import transfer
from transvae_platform.data.sets.manifest import Manifest, read_manifest, write_manifest
from transvae_platform.data.sets.remote import read_remote_manifest
from transvae_platform.data.sets.shards import image_field, write_shard
from transvae_platform.data.sets.stores import open_store
from transvae_platform.data.sets.transfer import copy_set
from transvae_platform.errors import SpecError, UnreachableError


def make(folder, seed, fingerprint):
    """(folder, manifest) of a data set of six shards, of the same size for every seed."""
    folder.mkdir()
    random, field = np.random.default_rng(seed), image_field(8)
    shards = tuple(
        write_shard(
            folder / f"train-{number:05d}.arrow",
            "train",
            {field: random.integers(0, 256, (4, 8, 8, 3), np.uint8)},
            {"item": pa.array(range(4 * number, 4 * number + 4))},
        )
        for number in range(6)
    )
    manifest = Manifest(fingerprint, "images", (field,), 24, shards, (), {"resolution": 8}, {}, {})
    write_manifest(folder, manifest)
    return folder, manifest


@pytest.fixture
def local(tmp_path):
    return make(tmp_path / "local", 0, "f" * 16)


@pytest.fixture
def other(tmp_path):
    """Another data set, whose shards have the same names and sizes."""
    return make(tmp_path / "other", 1, "e" * 16)


@pytest.fixture
def copied(monkeypatch):
    """The files that were copied, in order."""
    names, real = [], transfer._copy

    def noted(there, path, here, where):
        names.append(path.rpartition("/")[2])
        return real(there, path, here, where)

    monkeypatch.setattr(transfer, "_copy", noted)
    return names


def anywhere() -> str:
    return f"memory://{uuid.uuid4().hex}/set"


def test_a_copy_continues_and_writes_the_manifest_last(local, copied):
    location = anywhere()
    begun = copy_set(*local, location)
    assert [next(begun) for _ in range(3)] == [shard.bytes for shard in local[1].shards[:3]]
    begun.close()  # as a process that ends here
    with pytest.raises(UnreachableError, match="no data set can be read there"):
        read_remote_manifest(location)
    first = list(copied)
    assert sum(copy_set(*local, location)) == local[1].bytes
    assert len(copied) == len(set(copied)) == 7
    assert copied[: len(first)] == first
    assert copied[-1] == "manifest.json"
    assert read_remote_manifest(location) == local[1]


def test_two_copies_into_one_folder_come_one_after_the_other(local, tmp_path, copied):
    first, second = copy_set(*local, tmp_path / "copy"), list[int]()
    next(first)
    other = threading.Thread(target=lambda: second.extend(copy_set(*local, tmp_path / "copy")))
    other.start()
    other.join(0.2)
    assert second == []
    assert copied == ["train-00000.arrow"]
    list(first)
    other.join()
    assert sum(second) == local[1].bytes
    assert copied[7:] == ["manifest.json"]
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == sorted(
        path.name for path in local[0].iterdir()
    )


def test_two_copies_to_a_store_do_not_end_each_other(local):
    location = anywhere()
    first = copy_set(*local, location)
    next(first)
    list(copy_set(*local, location))
    list(first)
    assert find_damage(location, local[1]) == []


def test_copied_bytes_reach_the_disk_before_their_names(local, tmp_path, monkeypatch):
    synced = set()
    monkeypatch.setattr(transfer.os, "fsync", lambda file: synced.add(os.fstat(file.fileno()).st_ino))
    list(copy_set(*local, tmp_path / "copy"))
    assert {path.stat().st_ino for path in (tmp_path / "copy").iterdir()} <= synced


def test_a_copy_comes_back_byte_for_byte(local, tmp_path):
    location = anywhere()
    list(copy_set(*local, location))
    list(copy_set(location, local[1], tmp_path / "back"))
    assert read_manifest(tmp_path / "back") == local[1]
    for path in local[0].iterdir():
        assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes()


def test_a_damaged_source_is_not_spread(local, tmp_path):
    flip(local[0] / "train-00003.arrow")
    with pytest.raises(UnreachableError, match=r"train-00003\.arrow is damaged"):
        list(copy_set(*local, tmp_path / "copy"))
    left = sorted(path.name for path in (tmp_path / "copy").glob("*.arrow"))
    assert left == [f"train-0000{n}.arrow" for n in range(3)]
    assert read_manifest(tmp_path / "copy") is None


def test_a_copy_onto_itself_is_refused(local):
    with pytest.raises(SpecError, match="is where the data set lies already"):
        list(copy_set(*local, f"{local[0]}/"))
    assert len(list(local[0].iterdir())) == 7


@pytest.mark.parametrize("done", [1, 6])
@pytest.mark.parametrize("far", [False, True])
def test_a_copy_onto_another_data_set_is_refused(local, other, tmp_path, far, done):
    location = anywhere() if far else str(tmp_path / "copy")
    begun = copy_set(*other, location)
    for _ in range(done):
        next(begun)
    (begun.close if done == 1 else lambda: list(begun))()
    with pytest.raises(SpecError, match="holds another data set \\(eeeeeeeeeeeeeeee\\), not ffffffffffffffff - give"):
        list(copy_set(*local, location))
    list(copy_set(*other, location))
    assert find_damage(location, other[1]) == []


def test_shards_of_another_data_set_are_not_taken_for_its_own(local, other, tmp_path):
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "train-00002.arrow").write_bytes((other[0] / "train-00002.arrow").read_bytes())
    list(copy_set(*local, tmp_path / "copy"))
    assert find_damage(str(tmp_path / "copy"), local[1]) == []


def test_a_damaged_copy_is_mended(local, tmp_path, copied):
    list(copy_set(*local, tmp_path / "copy"))
    flip(tmp_path / "copy" / "train-00004.arrow")
    copied.clear()
    list(copy_set(*local, tmp_path / "copy"))
    assert copied == ["train-00004.arrow", "manifest.json"]
    assert find_damage(str(tmp_path / "copy"), local[1]) == []
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == sorted(
        path.name for path in local[0].iterdir()
    )


def test_a_manifest_that_was_half_written_does_not_end_the_copy(local, tmp_path):
    begun = copy_set(*local, tmp_path / "copy")
    next(begun)
    begun.close()
    (tmp_path / "copy" / "manifest.json").write_text('{"version": 2, ')
    list(copy_set(*local, tmp_path / "copy"))
    assert read_manifest(tmp_path / "copy") == local[1]


def test_a_place_that_cannot_be_written_is_named(local, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UnreachableError, match="file/set"):
        list(copy_set(*local, tmp_path / "file" / "set"))


@pytest.mark.parametrize("far", [False, True])
def test_every_damaged_shard_is_found(local, far):
    folder, manifest = local
    location = str(folder)
    if far:
        location = anywhere()
        list(copy_set(folder, manifest, location))
    assert find_damage(str(location), manifest) == []
    store, root = open_store(location)
    assert isinstance(store, LocalFileSystem) != far
    flip(folder / "train-00001.arrow")
    with store.open_output_stream(f"{root}/train-00001.arrow") as out:
        out.write((folder / "train-00001.arrow").read_bytes())
    store.delete_file(f"{root}/train-00004.arrow")
    (first, problem), (second, _) = find_damage(location, manifest)
    assert (first, second) == ("train-00001.arrow", "train-00004.arrow")
    assert problem.startswith("its SHA-256 is")


def flip(path):
    """Turn one bit of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_source_under_another_name_is_refused_and_stays(local, tmp_path):
    alias = tmp_path / "alias"
    alias.symlink_to(local[0])
    with pytest.raises(SpecError, match="where the data set lies already"):
        list(copy_set(*local, alias))
    assert read_manifest(local[0]) == local[1]


def test_files_that_lead_back_to_the_source_are_replaced_not_written_through(local, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "manifest.json").hardlink_to(local[0] / "manifest.json")
    list(copy_set(*local, target))
    assert read_manifest(local[0]) == read_manifest(target) == local[1]
    assert sorted(path.name for path in target.iterdir()) == sorted(path.name for path in local[0].iterdir())
