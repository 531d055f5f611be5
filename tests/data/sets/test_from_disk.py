"""What is asked of the system before records are copied."""

import ctypes
import os
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from transvae_platform.data.sets import local
from transvae_platform.data.sets.from_disk import ask_for_records, some_are_missing
from transvae_platform.data.sets.gather import Piece
from transvae_platform.data.sets.local import LocalShelf
from transvae_platform.data.sets.manifest import Manifest
from transvae_platform.data.sets.samples import SampleSet
from transvae_platform.data.sets.shards import Shard, ShardFile, image_field, write_shard

RECORDS, SIDE = 600, 128
"""30 MB: opening a shard brings up to 8 MiB at either end along, where a disk is set up so."""
FEW = np.array([5, 40, 63])


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    images = np.random.default_rng(0).integers(0, 256, (RECORDS, SIDE, SIDE, 3), np.uint8)
    return write_shard(
        tmp_path / "s.arrow", "train", {image_field(SIDE): images}, {"item": pa.array(range(RECORDS))}
    )  # fmt: skip


def pieces_of(file: ShardFile, rows: np.ndarray) -> list[Piece]:
    return [(np.arange(len(rows)), file.array("image"), rows)]


def resident(records: np.ndarray, row: int) -> bool:
    """Whether all pages of a record are in memory, as Linux says."""
    start = records[row].ctypes.data // 4096 * 4096
    size = records[row].ctypes.data + records[row].nbytes - start
    pages = (ctypes.c_ubyte * -(-size // 4096))()
    assert ctypes.CDLL(None).mincore(ctypes.c_void_p(start), ctypes.c_size_t(size), pages) == 0
    return all(page & 1 for page in pages)


def out_of_memory(path: Path) -> None:
    """The file lies on the disk alone, where the file system lets go of pages."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what lies in memory")
def test_records_that_are_asked_for_come_and_no_others(shard: Shard, tmp_path: Path) -> None:
    out_of_memory(tmp_path / shard.file)
    file = ShardFile(tmp_path / shard.file)
    records = file.array("image")
    gone = [row for row in range(RECORDS) if not resident(records, row)]
    if len(gone) < 30:
        pytest.skip("this file system keeps its pages")
    wanted = np.array(gone[:-10:10])
    assert some_are_missing(pieces_of(file, wanted))
    ask_for_records(pieces_of(file, wanted))
    deadline = time.monotonic() + 30
    while some_are_missing(pieces_of(file, wanted)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert all(resident(records, row) for row in wanted.tolist())


def test_first_batch_is_asked_for_later_ones_where_they_are_missing(
    shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[int]] = []
    missing = True
    monkeypatch.setattr(local, "ask_for_records", lambda pieces: asked.append([*pieces[0][2].tolist()]))
    monkeypatch.setattr(local, "some_are_missing", lambda pieces: missing)
    manifest = Manifest("f" * 16, "images", (image_field(SIDE),), RECORDS, (shard,), (), {}, {}, {})
    reads = [np.array([1]), np.array([2]), np.array([3])]
    from_disk, in_memory = (SampleSet(manifest, LocalShelf(tmp_path, kept), "train") for kept in (False, True))
    for number, ids in enumerate(reads):
        missing = number < 2  # read by the lambda above
        from_disk.read(ids)
    assert asked == [[1], [2]]  # what is there costs no asking
    missing, asked[:] = True, []
    for ids in reads:
        in_memory.read(ids)
    assert asked == [[1]]  # the rest comes in large pages


def test_each_shard_is_announced_once(shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    announced: list[str] = []
    monkeypatch.setattr(local, "ask_for_ends", lambda path: announced.append(path.name))
    manifest = Manifest("f" * 16, "images", (image_field(SIDE),), RECORDS, (shard,), (), {}, {}, {})
    samples = SampleSet(manifest, LocalShelf(tmp_path), "train")
    for _ in range(3):
        samples.read(FEW)
    assert announced == [shard.file]
