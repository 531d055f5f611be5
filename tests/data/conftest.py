"""Folders of small real image files, and data sections that read them."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image

from transvae_platform.data.listing import Listing, list_source
from transvae_platform.data.listing.bundled import list_bundled
from transvae_platform.data.making import images
from transvae_platform.data.making.ingest import ingest
from transvae_platform.data.making.work import run_locally
from transvae_platform.data.sets.manifest import Manifest
from transvae_platform.study.data_spec import Data


@pytest.fixture
def noise() -> Callable[..., Image.Image]:
    """A picture in which every pixel is another, so that no two places look alike."""

    def make(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
        values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
        return Image.fromarray(values)

    return make


@pytest.fixture
def encode() -> Callable[..., bytes]:
    def write(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
        file = io.BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    return write


@pytest.fixture
def photos(tmp_path, noise) -> Callable[..., Path]:
    """A folder of photographs `p0.png`, `p1.png` ... that differ."""

    def make(count: int = 5, name: str = "photos") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for index in range(count):
            noise(40 + index, 30, seed=index).save(folder / f"p{index}.png")
        return folder

    return make


@pytest.fixture
def section() -> Callable[..., Data]:
    def make(folder: Path | None = None, **changes: Any) -> Data:
        source = {"source": "bundled"} if folder is None else {"source": "folder", "path": str(folder)}
        return Data.model_validate({**source, "resolution": 16, **changes})

    return make


@pytest.fixture
def listing_of() -> Callable[[Data], Listing]:
    """What the source of a data section holds."""
    return lambda data: list_source(data.path) if data.path else list_bundled()


@pytest.fixture
def make_set(tmp_path, listing_of) -> Callable[..., tuple[Path, Manifest]]:
    """Ingest a data section in this process; returns the data set's folder and manifest."""

    def make(data: Data, home: str = "home") -> tuple[Path, Manifest]:
        manifest = ingest(listing_of(data), data, tmp_path / home, run_locally)
        return tmp_path / home / "data" / manifest.fingerprint, manifest

    return make


@pytest.fixture
def memory_copy() -> Callable[[Path], str]:
    """A copy of a flat folder on fsspec's store in memory; returns its URI."""

    def copy(folder: Path) -> str:
        store, name = fsspec.filesystem("memory"), uuid.uuid4().hex
        for path in folder.iterdir():
            store.pipe(f"/{name}/{path.name}", path.read_bytes())
        return f"memory://{name}"

    return copy


@pytest.fixture
def small_shards(monkeypatch):
    """Shards of eight samples."""
    monkeypatch.setattr(images, "SHARD_RECORDS", 8)
