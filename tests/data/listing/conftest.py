"""Small sources of every layout, written file by file; no image is decoded here, so most have a few bytes."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from transvae_platform.data.listing import LISTING_SCHEMA, Listing
from transvae_platform.data.listing.reading import read_items


@pytest.fixture
def put(tmp_path) -> Callable[..., Path]:
    """A folder with files; content is the file's own name unless it is given."""

    def make(files: list[str] | Mapping[str, bytes], name: str = "source") -> Path:
        folder = tmp_path / name
        contents = files if isinstance(files, Mapping) else {file: file.encode() for file in files}
        for file, content in contents.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
        return folder

    return make


@pytest.fixture
def pack() -> Callable[..., bytes]:
    """The bytes of a tar with members in this order."""

    def make(members: list[tuple[str, bytes]]) -> bytes:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", encoding="utf-8", errors="surrogateescape") as tar:
            for name, content in members:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return file.getvalue()

    return make


@pytest.fixture
def memory() -> Callable[..., str]:
    """A copy of a folder on fsspec's store in memory; returns its URI."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]

    def copy(folder: Path) -> str:
        for path in folder.rglob("*"):
            if path.is_file():
                store.pipe(f"/bucket/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return "memory://bucket"

    return copy


@pytest.fixture
def check() -> Callable[[Listing], dict[str, bytes]]:
    """Every promise about a listing that its schema does not make; returns the contents by name."""

    def verify(listing: Listing) -> dict[str, bytes]:
        table = listing.table
        assert table.schema == LISTING_SCHEMA
        names = table["name"].to_pylist()
        assert names == sorted(set(names))
        assert table["path"].null_count == table["stamp"].null_count == 0
        assert set(table["split"].to_pylist()) <= {"train", "validation", None}
        assert all(label is None or 0 <= label < len(listing.classes) for label in table["label"].to_pylist())
        items = list(read_items(table))
        assert [position for position, _, _ in items] == list(range(len(names)))
        assert all(content is not None and not reason for _, content, reason in items), items
        assert all(
            size is None or size == len(content or b"")
            for size, (_, content, _) in zip(table["size"].to_pylist(), items, strict=True)
        )
        return {name: content or b"" for name, (_, content, _) in zip(names, items, strict=True)}

    return verify


@pytest.fixture
def rows() -> Callable[..., list[tuple]]:
    """Some columns of a listing as tuples."""

    def pick(listing: Listing, *columns: str) -> list[tuple]:
        table: pa.Table = listing.table.select(columns)
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))

    return pick
