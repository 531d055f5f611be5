"""Data sets on a store: what is needed comes to a bounded cache, and arrives whole or not at all."""

import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest

from transvae_platform.data.sets import remote
from transvae_platform.data.sets.local import LocalShelf
from transvae_platform.data.sets.manifest import Manifest, write_manifest
from transvae_platform.data.sets.mixture import open_training_data
from transvae_platform.data.sets.remote import RemoteShelf, cache_folder, default_cache, read_remote_manifest
from transvae_platform.data.sets.samples import SampleSet, open_data
from transvae_platform.data.sets.shards import image_field, write_shard
from transvae_platform.data.sets.transfer import copy_set
from transvae_platform.data.stream.batches import TrainStream
from transvae_platform.errors import SpecError, UnreachableError, UserError
from transvae_platform.study.data_spec import Sampling

RECORDS = 6


@pytest.fixture
def local(tmp_path):
    """(folder, manifest) of a data set of eight training shards and one of validation."""
    folder = tmp_path / "local"
    folder.mkdir()
    random, field, shards = np.random.default_rng(0), image_field(8), []
    for number in range(9):
        images = random.integers(0, 256, (RECORDS, 8, 8, 3), np.uint8)
        split = "validation" if number == 0 else "train"
        items = pa.array(range(RECORDS * number, RECORDS * (number + 1)))
        shards.append(write_shard(folder / f"{split}-{number:05d}.arrow", split, {field: images}, {"item": items}))
    manifest = Manifest("f" * 16, "images", (field,), 54, tuple(shards), (), {"resolution": 8}, {}, {})
    write_manifest(folder, manifest)
    return folder, manifest


@pytest.fixture
def store(local):
    """The URI of the same data set on a store."""
    location = f"memory://{uuid.uuid4().hex}/sets/one"
    assert sum(copy_set(*local, location)) == local[1].bytes
    return location


@pytest.fixture
def downloads(monkeypatch):
    """The shards that were downloaded, in order."""
    done = []
    real = RemoteShelf._download

    def noted(self, shard, path, out):
        done.append(shard.file)
        real(self, shard, path, out)

    monkeypatch.setattr(RemoteShelf, "_download", noted)
    monkeypatch.setattr(remote.time, "sleep", lambda seconds: None)
    return done


def shelf(store, local, tmp_path, shards=3):
    return RemoteShelf(store, local[1], tmp_path / "cache", shards * local[1].shards[0].bytes)


def test_manifest_on_a_store_is_the_local_one(store, local):
    assert read_remote_manifest(store) == local[1]


def test_samples_from_a_store_are_the_local_ones(store, local, tmp_path, downloads):
    train, validation = open_data(store, tmp_path / "cache", 10**9)
    here, held = (SampleSet(local[1], LocalShelf(local[0]), split) for split in ("train", "validation"))
    ids = np.random.default_rng(1).permutation(len(here))
    assert (train.read(ids) == here.read(ids)).all()
    assert (validation.read(np.arange(RECORDS)) == held.read(np.arange(RECORDS))).all()
    assert sorted(downloads) == sorted(set(downloads))  # each once


def test_batches_from_a_store_are_the_local_ones_with_a_small_cache(store, local, tmp_path, downloads):
    sampling = Sampling(shuffle_window=2)
    near = TrainStream(SampleSet(local[1], LocalShelf(local[0]), "train"), sampling, batch_size=4, seed=3)
    small = SampleSet(local[1], shelf(store, local, tmp_path, shards=4), "train")
    far = TrainStream(small, sampling, batch_size=4, seed=3)
    for step in range(24):
        assert (far.batch(step).images == near.batch(step).images).all()
    cached = list((tmp_path / "cache" / cache_folder(local[1])).glob("*.arrow"))
    assert len(cached) <= 4


def test_disk_stays_bounded_and_the_least_recently_used_leave(store, local, tmp_path, downloads):
    cache = shelf(store, local, tmp_path, shards=3)
    shards = local[1].shards
    for shard in (shards[0], shards[1], shards[0], shards[2], shards[0], shards[3]):
        cache.open(shard)
    left = {path.name for path in (tmp_path / "cache" / cache_folder(local[1])).glob("*.arrow")}
    assert left == {shards[0].file, shards[2].file, shards[3].file}
    assert len(downloads) == 4


def test_shard_that_is_read_does_not_leave(store, local, tmp_path, downloads):
    cache, shards = shelf(store, local, tmp_path, shards=2), local[1].shards
    view = cache.open(shards[0]).array("image")[2]  # holds its shard, as any view does
    for shard in shards[1:4]:
        cache.open(shard)
    folder = tmp_path / "cache" / cache_folder(local[1])
    assert {path.name for path in folder.glob("*.arrow")} == {shards[0].file, shards[3].file}
    del view
    for shard in shards[4:6]:
        cache.open(shard)
    assert {path.name for path in folder.glob("*.arrow")} == {shards[4].file, shards[5].file}


def test_who_finds_no_room_waits_then_says_so(store, local, tmp_path, monkeypatch):
    cache, shards = shelf(store, local, tmp_path, shards=2), local[1].shards
    held = [cache.open(shards[0]), cache.open(shards[1])]
    monkeypatch.setattr(remote, "PATIENCE", 0.2)
    with pytest.raises(
        UnreachableError, match=rf"data.cache_bytes: for 0.2 s there was no room for {shards[2].file} of"
    ):
        cache.open(shards[2])
    monkeypatch.setattr(remote, "PATIENCE", 60)
    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(lambda: len(cache.open(shards[2])))
        time.sleep(0.1)
        assert not waiting.done()
        held.pop()
        assert waiting.result(timeout=60) == RECORDS


def test_batch_of_more_shards_than_there_is_room_for(store, local, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "PATIENCE", 10)  # who held one shard while he asks for another would wait for himself
    cache = shelf(store, local, tmp_path, 2)
    near, far = (SampleSet(local[1], place, "train") for place in (LocalShelf(local[0]), cache))
    others = cache.open(local[1].shards[0])
    ids = np.random.default_rng(0).permutation(len(near))
    assert (far.read(ids) == near.read(ids)).all()
    assert far.column(ids, "item") == near.column(ids, "item") == (ids + RECORDS).tolist()
    assert len(others) == RECORDS


def test_cache_that_cannot_hold_two_shards_is_refused(store, local, tmp_path):
    with pytest.raises(UserError, match=r"data.cache_bytes: .* do not hold two shards"):
        RemoteShelf(store, local[1], tmp_path, local[1].shards[0].bytes)


def test_order_that_would_thrash_the_cache_is_refused_with_what_it_needs(store, local, tmp_path):
    size, places = local[1].shards[1].bytes, [(store, 1.0)]
    for window, shards, message in (
        (2, 3, f"data.cache_bytes: {3 * size} bytes for {store} do not hold two windows of 2 shards, {4 * size} bytes"),
        (None, 8, f"data.sampling.shuffle_window: {store} has {local[1].bytes} bytes, more than its {8 * size}"),
    ):
        train, _ = open_training_data(places, tmp_path / "cache", shards * size)
        with pytest.raises(SpecError, match=message):
            TrainStream(train, Sampling(shuffle_window=window), batch_size=4, seed=0)
    for window, shards in ((2, 4), (None, 10), (4, 8), (100, 8)):  # no more than there are
        train, _ = open_training_data(places, tmp_path / "cache", shards * size)
        TrainStream(train, Sampling(shuffle_window=window), batch_size=4, seed=0)


def test_shard_is_on_the_disk_before_it_has_its_name(store, local, tmp_path, monkeypatch):
    order, shard = [], local[1].shards[1]
    flush, rename = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda file: order.append(os.fstat(file).st_size) or flush(file))
    monkeypatch.setattr(Path, "replace", lambda path, other: order.append(other.name) or rename(path, other))
    shelf(store, local, tmp_path).open(shard)
    assert order == [shard.bytes, shard.file]


def test_damaged_download_is_tried_again_then_named(store, local, tmp_path, downloads):
    shard = local[1].shards[3]
    path = f"{store.removeprefix('memory:/')}/{shard.file}"
    memory = fsspec.filesystem("memory")
    whole = memory.cat(path)
    memory.pipe(path, whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UnreachableError, match=rf"{shard.file}: its SHA-256 is .* \(3 attempts\)"):
        shelf(store, local, tmp_path).open(shard)
    assert list((tmp_path / "cache" / cache_folder(local[1])).iterdir()) == []
    memory.pipe(path, whole)
    assert shelf(store, local, tmp_path).open(shard).sha256() == shard.sha256


def test_outage_in_the_middle_heals(store, local, tmp_path, downloads, monkeypatch):
    cache = shelf(store, local, tmp_path)
    real, failures = cache._store, [OSError("connection reset"), OSError("slow down")]

    class Flaky:
        def open_input_stream(self, path):
            if failures:
                raise failures.pop()
            return real.open_input_stream(path)

    cache._store = Flaky()
    assert len(cache.open(local[1].shards[0])) == RECORDS
    failures.extend([OSError("connection reset")] * 3)
    with pytest.raises(UnreachableError, match="connection reset"):
        cache.open(local[1].shards[1])


def test_readers_at_once_download_a_shard_once(store, local, tmp_path, downloads):
    shelves = [shelf(store, local, tmp_path) for _ in range(4)]
    threads = [threading.Thread(target=cache.open, args=(local[1].shards[2],)) for cache in shelves]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert downloads == [local[1].shards[2].file]


def test_what_will_be_needed_comes_in_the_background(store, local, tmp_path, downloads):
    cache = shelf(store, local, tmp_path)
    cache.expect(local[1].shards[:2])
    cache._soon.shutdown(wait=True)
    assert set(downloads) == {shard.file for shard in local[1].shards[:2]}


def drain(cache):
    """Wait for what was expected."""
    cache._soon.submit(int).result()


def held(folder):
    """Bytes of all shards in a cache."""
    return sum(path.stat().st_size for path in folder.rglob("*.arrow"))


def test_only_what_fits_is_expected_and_the_first_needed_comes_first(store, local, tmp_path, downloads):
    samples = SampleSet(local[1], shelf(store, local, tmp_path, shards=3), "train")
    samples.expect(RECORDS * np.array([5, 2, 7, 0, 1]) + 2)
    drain(samples._shelf)
    assert downloads == [f"train-0000{number}.arrow" for number in (6, 3, 8)]
    samples._shelf.expect(local[1].shards[6:7])
    samples._shelf.open(local[1].shards[1])
    assert (tmp_path / "cache" / cache_folder(local[1]) / "train-00006.arrow").exists()  # expected: leaves last


def test_smallest_cache_for_a_window_downloads_each_shard_once_an_epoch(store, local, tmp_path, downloads):
    samples = SampleSet(local[1], shelf(store, local, tmp_path, shards=4), "train")
    stream = TrainStream(samples, Sampling(shuffle_window=2), batch_size=12, seed=1)
    for step in range(4):
        stream.batch(step)
        drain(samples._shelf)
    assert sorted(downloads) == sorted(shard.file for shard in local[1].shards[1:])


def test_all_data_sets_of_a_cache_share_one_budget(store, local, tmp_path, downloads):
    size, cache = local[1].shards[0].bytes, tmp_path / "cache"
    for number in range(3):
        one = RemoteShelf(store, replace(local[1], fingerprint=f"a{number}"), cache, 4 * size)
        for shard in local[1].shards[:3]:
            one.open(shard)
            assert held(cache) <= 4 * size
    assert len(list(cache.rglob("*.arrow"))) == 4


def test_shards_of_a_mixture_share_one_budget(store, local, tmp_path, downloads):
    most = max(shard.bytes for shard in local[1].shards)
    with pytest.raises(UserError, match="do not hold two shards"):
        open_training_data([(store, 1.0), (store, 1.0)], tmp_path / "cache", 4 * most - 1)
    train, _ = open_training_data([(store, 1.0), (store, 1.0)], tmp_path / "cache", 4 * most)
    train.expect(np.arange(len(train)))
    drain(train._parts[0]._shelf)
    drain(train._parts[1]._shelf)
    assert len(set(downloads)) == 2  # each part expects no more than its share: the first two shards of both


def test_downloads_of_a_node_keep_to_the_bound_together(store, local, tmp_path, monkeypatch):
    most, real, seen = 3 * local[1].shards[0].bytes, RemoteShelf._download, []

    def watched(self, shard, path, out):
        real(self, shard, path, out)
        with self._node_locked():
            seen.append(sum(one.stat().st_size for one in (tmp_path / "cache" / cache_folder(local[1])).iterdir()))

    monkeypatch.setattr(RemoteShelf, "_download", watched)
    with ThreadPoolExecutor(6) as readers:
        shelves = [shelf(store, local, tmp_path) for _ in range(6)]
        read = [readers.submit(lambda n: len(shelves[n % 6].open(local[1].shards[n * 5 % 9])), n) for n in range(54)]
        assert [file.result() for file in read] == [RECORDS] * 54
    assert max(seen) <= most
    assert held(tmp_path / "cache") <= most


READER = """
import sys
from pathlib import Path
import numpy as np
from transvae_platform.data.sets import remote
from transvae_platform.data.sets.samples import open_data
remote.PATIENCE = 20
location, cache, bound, seed = sys.argv[1:]
train, _ = open_data(location, Path(cache), int(bound))
random, total = np.random.default_rng(int(seed)), 0
for _ in range(30):
    total += int(train.read(random.integers(len(train), size=12)).sum())
    assert f"{cache}/" not in Path("/proc/self/maps").read_text(), "nothing stays mapped between batches"
print(total)
"""


def test_processes_that_read_different_shards_keep_to_the_bound_of_the_node(local, tmp_path):
    cache, bound = tmp_path / "cache", 3 * local[1].shards[0].bytes
    arguments = [sys.executable, "-c", READER, f"file://{local[0]}", str(cache), str(bound)]
    readers = [subprocess.Popen([*arguments, str(seed)], stdout=subprocess.PIPE, text=True) for seed in range(3)]
    watcher, most = RemoteShelf(f"file://{local[0]}", local[1], cache, bound), 0
    watcher.open(local[1].shards[0])
    while any(reader.poll() is None for reader in readers):
        with watcher._node_locked():
            most = max(most, sum(path.stat().st_size for path in remote._files(cache)))
        time.sleep(0.002)
    assert 2 * local[1].shards[0].bytes < most <= bound
    near = SampleSet(local[1], LocalShelf(local[0]), "train")
    for seed, reader in enumerate(readers):
        random = np.random.default_rng(seed)
        total = sum(int(near.read(random.integers(len(near), size=12)).sum()) for _ in range(30))
        assert (reader.returncode, int(reader.communicate()[0])) == (0, total)


def test_different_shards_come_at_the_same_time(store, local, tmp_path, monkeypatch):
    both, real = threading.Barrier(2, timeout=60), RemoteShelf._download

    def met(self, shard, path, out):
        both.wait()  # breaks if the other cannot begin before this one ends
        real(self, shard, path, out)

    monkeypatch.setattr(RemoteShelf, "_download", met)
    with ThreadPoolExecutor(2) as readers:
        read = [readers.submit(shelf(store, local, tmp_path).open, local[1].shards[n]) for n in range(2)]
        assert [len(file.result()) for file in read] == [RECORDS] * 2


def test_what_killed_downloads_left_is_removed_and_data_sets_are_not(store, local, tmp_path, downloads):
    cache, mine = tmp_path / "cache", tmp_path / "cache" / "abcd"
    (cache / "ee").mkdir(parents=True)
    (cache / "ee" / ".train-00001.arrow.part").write_bytes(bytes(10**4))
    mine.mkdir()
    for name in ("manifest.json", "train-00000.arrow", ".claim"):
        (mine / name).write_text("a data set that lies beside")
    for shard in local[1].shards:
        shelf(store, local, tmp_path, shards=2).open(shard)
    assert len(list(mine.iterdir())) == 3
    assert [path.name for path in cache.rglob(".*") if path.parent != mine] == [".lock"]


def test_shard_that_leaves_before_it_is_mapped_comes_again(store, local, tmp_path, downloads, monkeypatch):
    cache, shard = shelf(store, local, tmp_path), local[1].shards[0]
    cache.open(shard)
    real, evictions = remote.mapped_while_held, [True]

    def mapped(file):
        if evictions and evictions.pop():
            Path(file.name).unlink()
        return real(file)

    monkeypatch.setattr(remote, "mapped_while_held", mapped)
    far, near = (SampleSet(local[1], where, "validation") for where in (cache, LocalShelf(local[0])))
    assert (far.read(np.arange(2)) == near.read(np.arange(2))).all()
    assert downloads == [shard.file] * 2


def test_cache_that_is_cleaned_away_meanwhile_does_not_end_a_reader(store, local, tmp_path, downloads, monkeypatch):
    cache, real = shelf(store, local, tmp_path), remote._files
    cache.open(local[1].shards[0])
    monkeypatch.setattr(remote, "_files", lambda folder: [*real(folder), folder / "ff" / "gone.arrow"])
    cache.open(local[1].shards[1])
    shutil.rmtree(tmp_path / "cache")
    assert len(cache.open(local[1].shards[0])) == RECORDS


@pytest.mark.parametrize("location", ["memory://nothing/here", "s4://bucket/set"])
def test_location_without_a_data_set_is_named(location):
    with pytest.raises(UserError, match=location):
        read_remote_manifest(location)


@pytest.mark.parametrize("harm", [lambda whole: bytes(len(whole)), lambda whole: whole[:100], lambda whole: b""])
def test_cached_shard_that_was_damaged_comes_again(store, local, tmp_path, downloads, harm):
    shard = local[1].shards[1]
    shelf(store, local, tmp_path).open(shard)
    cached = next((tmp_path / "cache").rglob("*.arrow"))
    cached.write_bytes(harm(cached.read_bytes()))
    assert shelf(store, local, tmp_path).open(shard).sha256() == shard.sha256  # as another process
    assert downloads == [shard.file] * 2


def test_data_set_that_claims_the_fingerprint_of_another_does_not_stand_in_for_it(store, local, tmp_path, downloads):
    first, second = local[1].shards[1:3]
    claiming = replace(local[1], shards=(replace(second, file=first.file),))
    fsspec.filesystem("memory").pipe("/evil/" + first.file, (local[0] / second.file).read_bytes())
    RemoteShelf("memory://evil", claiming, tmp_path / "cache", 10**9).open(claiming.shards[0])
    assert shelf(store, local, tmp_path).open(first).sha256() == first.sha256


def test_default_cache_is_the_users_own(tmp_path, monkeypatch):
    monkeypatch.delenv(remote.CACHE_VARIABLE, raising=False)
    monkeypatch.setattr(remote.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = default_cache()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert default_cache() == folder
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    (tmp_path / "transvae-cache-4242").mkdir()
    with pytest.raises(UserError, match="belongs to somebody else - set TRANSVAE_CACHE"):
        default_cache()


def test_cache_that_cannot_be_made_is_named(store, local, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match=r"cannot be made \(.*\) - set TRANSVAE_CACHE"):
        shelf(store, local, tmp_path).open(local[1].shards[0])
