"""Shards that the memory can hold are mapped in large pages, and read like any other."""

import mmap
import os
from pathlib import Path

import pyarrow as pa
import pytest

from transvae_platform.data.sets import in_memory
from transvae_platform.data.sets.in_memory import fits_in_memory, mapped_in_large_pages
from transvae_platform.data.sets.manifest import Manifest
from transvae_platform.data.sets.samples import open_shelf
from transvae_platform.data.sets.shards import Shard, ShardFile, image_field


def test_bytes_of_a_file(tmp_path):
    path = tmp_path / "s"
    path.write_bytes(bytes(range(256)) * 50)
    mapped = mapped_in_large_pages(path)
    path.unlink()
    assert bytes(mapped) == bytes(range(256)) * 50


def test_an_empty_file_is_no_shard(tmp_path):
    (tmp_path / "s").touch()
    with pytest.raises(pa.ArrowInvalid):
        ShardFile(mapped_in_large_pages(tmp_path / "s"))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux lists the descriptors of a process")
def test_no_descriptor_is_kept(tmp_path):
    (tmp_path / "s").write_bytes(b"x" * 5000)
    kept = [mapped_in_large_pages(tmp_path / "s") for _ in range(20)]
    links = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    assert str(tmp_path / "s") not in links
    assert all(bytes(mapped) == b"x" * 5000 for mapped in kept)


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="an advice that Linux takes")
def test_large_pages_are_asked_for(tmp_path):
    (tmp_path / "s").write_bytes(b"x" * 5000)
    kept = mapped_in_large_pages(tmp_path / "s")
    mapping = Path("/proc/self/smaps").read_text().split(str(tmp_path / "s"))[1]
    flags = next(line for line in mapping.splitlines() if line.startswith("VmFlags"))
    assert " hg" in flags  # proc(5): huge page advise flag
    assert len(bytes(kept)) == 5000


@pytest.fixture
def memory(monkeypatch, tmp_path):
    """A machine with this many bytes of memory, outside of all control groups."""

    def has(count):
        monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": count // 4096, "SC_PAGE_SIZE": 4096}.__getitem__)
        monkeypatch.setattr(in_memory, "OWN_GROUPS", tmp_path / "own")
        monkeypatch.setattr(in_memory, "GROUPS", tmp_path / "groups")

    return has


def holds(count):
    return fits_in_memory(int(in_memory.SHARE * count)) and not fits_in_memory(int(in_memory.SHARE * count) + 1)


def test_what_fits(memory):
    memory(1000 * 4096)
    assert holds(1000 * 4096)


@pytest.mark.parametrize(
    ("own", "limits"),
    [
        ("0::/", {"memory.max": "8192"}),
        ("0::/pod/box", {"pod/memory.max": "8192", "pod/box/memory.max": "max"}),
        ("0::/pod/box", {"pod/memory.max": "9000", "pod/box/memory.max": "8192"}),
        ("5:cpu:/x\n4:memory:/pod\n0::/", {"memory/pod/memory.limit_in_bytes": "8192"}),
        ("4:memory:/seen/outside/only", {"memory/memory.limit_in_bytes": "8192"}),
        ("4:memory:/", {"memory/memory.limit_in_bytes": str(2**63 - 4096)}),  # version 1 says so where there is none
    ],
)
def test_a_container_holds_what_it_may(memory, tmp_path, own, limits):
    memory(1000 * 4096)
    (tmp_path / "own").write_text(own + "\n")
    for name, limit in limits.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(limit + "\n")
    assert holds(8192 if "8192" in limits.values() else 1000 * 4096)


def test_parts_of_a_mixture_share_the_memory(memory, tmp_path):
    memory(4096 * 1000)
    shard = Shard("s.arrow", "train", 1, int(in_memory.SHARE * 4096 * 500), "0")
    manifest = Manifest("f", "images", (image_field(8),), 1, (shard,), (), {"resolution": 8}, {}, {})
    shelves = [open_shelf(str(tmp_path), manifest, tmp_path, 10**9, sharing) for sharing in (1, 2, 3)]
    assert [shelf._in_memory for shelf in shelves] == [True, True, False]
