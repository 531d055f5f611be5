"""Shards: fixed-size uint8 records in Arrow IPC files that pyarrow, pandas and Ray Data read without our code.

Protocol
1. A data set is a folder named by its fingerprint: shard files and, written last and atomically, `manifest.json`.
   Without the manifest the data set does not exist.
2. A shard is one Arrow IPC file with one record batch: `id` (int64), `photograph` (int32, index in the source) and
   `image` (fixed-size binary, R*R*3 bytes, rows top to bottom, RGB). It is written under a temporary name and renamed.
3. The manifest lists each shard with its record count and SHA-256, the split it belongs to, and every file that was
   skipped with the reason. Ids count up from 0 within a split, in the order of the manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Shard:
    """One shard file: its name, split, number of samples and the SHA-256 of its bytes."""

    file: str
    split: str
    samples: int
    sha256: str


@dataclass(frozen=True)
class Skipped:
    """A source file that gave no samples, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """What a data set holds; see the protocol above."""

    fingerprint: str
    resolution: int
    photographs: int
    shards: tuple[Shard, ...]
    skipped: tuple[Skipped, ...]

    def samples(self, split: str) -> int:
        """Number of samples of a split."""
        return sum(shard.samples for shard in self.shards if shard.split == split)


def write_shard(path: Path, split: str, images_NRRC: NDArray[np.uint8], photographs_N: NDArray[np.int32]) -> Shard:
    """Write samples (n, R, R, 3) uint8 as one shard; ids are relative to the shard, the reader makes them global."""
    count, resolution = images_NRRC.shape[:2]
    flat = pa.py_buffer(np.ascontiguousarray(images_NRRC))
    kind = pa.binary(resolution * resolution * 3)
    batch = pa.record_batch(
        {
            "id": pa.array(np.arange(count)),
            "photograph": pa.array(photographs_N),
            "image": pa.FixedSizeBinaryArray.from_buffers(kind, count, [None, flat]),
        }
    )
    schema = batch.schema.with_metadata({"resolution": str(resolution), "layout": "HWC RGB uint8", "split": split})
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(batch.replace_schema_metadata(schema.metadata))
    with temporary.open("rb") as written:
        sha256 = hashlib.file_digest(written, "sha256").hexdigest()
        os.fsync(written.fileno())
    temporary.replace(path)
    return Shard(path.name, split, count, sha256)


def read_shard(path: Path, resolution: int) -> NDArray[np.uint8]:
    """The images of a shard, (n, R, R, 3) uint8, memory-mapped: nothing is read until it is used."""
    with pa.memory_map(str(path)) as file:
        column = pa.ipc.open_file(file).get_batch(0).column("image")
    return np.frombuffer(column.buffers()[1], np.uint8).reshape(len(column), resolution, resolution, 3)


def is_whole(folder: Path, shard: Shard) -> bool:
    """Whether a shard's bytes are the ones that the manifest names."""
    try:
        with (folder / shard.file).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == shard.sha256
    except OSError:
        return False


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest atomically: from now on the data set exists."""
    temporary = folder / f".manifest.{os.getpid()}"
    with temporary.open("w") as file:
        json.dump(asdict(manifest), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / "manifest.json")


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a finished data set, else None."""
    try:
        values = json.loads((folder / "manifest.json").read_text())
    except FileNotFoundError:
        return None
    values["shards"] = tuple(Shard(**shard) for shard in values["shards"])
    values["skipped"] = tuple(Skipped(**skipped) for skipped in values["skipped"])
    return Manifest(**values)
