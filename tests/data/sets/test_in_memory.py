"""Shards that the memory can hold are mapped in large pages, and read like any other."""

import mmap
import os
from pathlib import Path

import pyarrow as pa
import pytest

from transvae_platform.data.sets import in_memory
from transvae_platform.data.sets.in_memory import fits_in_memory, mapped_in_large_pages


def test_bytes_of_a_file(tmp_path):
    path = tmp_path / "s"
    path.write_bytes(bytes(range(256)) * 50)
    mapped = mapped_in_large_pages(path)
    path.unlink()
    assert bytes(mapped) == bytes(range(256)) * 50


def test_an_empty_file_is_no_shard(tmp_path):
    (tmp_path / "s").touch()
    with pytest.raises(pa.ArrowInvalid, match="empty"):
        mapped_in_large_pages(tmp_path / "s")


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="an advice that Linux takes")
def test_large_pages_are_asked_for(tmp_path):
    (tmp_path / "s").write_bytes(b"x" * 5000)
    kept = mapped_in_large_pages(tmp_path / "s")
    mapping = Path("/proc/self/smaps").read_text().split(str(tmp_path / "s"))[1]
    flags = next(line for line in mapping.splitlines() if line.startswith("VmFlags"))
    assert " hg" in flags  # proc(5): huge page advise flag
    assert len(bytes(kept)) == 5000


def test_what_fits(monkeypatch):
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert fits_in_memory(int(in_memory.SHARE * 1000 * 4096))
    assert not fits_in_memory(int(in_memory.SHARE * 1000 * 4096) + 1)
