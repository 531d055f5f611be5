"""Shards: fixed-size records in Arrow IPC files that pyarrow, pandas and Ray Data read without our code.

Protocol
1. A shard is one Arrow IPC file with one record batch. Every record has the same size: arrays (`image`, `latent`, ...)
   are fixed-size binary columns, in C order, with shape and dtype as JSON in the schema's metadata (`arrays`).
2. Beside them stand plain columns. `item` (int64) is the record's index in the listing of its source, `view` (int32)
   counts the samples of one item; the two together are unique and were decided before any parallel work. `sha256` is
   of the item's source bytes. `label` (int32) and `caption` (string) are there where the source has them, and
   SOURCE (int64) where there are edits: the item that a record is an edit of.
3. A shard is written under a temporary name, flushed to the disk and renamed: under its own name it is whole.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transvae_platform.data.sets.uncached import UncachedFile

# NumPy has no bfloat16: its bits travel as uint16, and readers give torch.bfloat16
STORED_AS = {"uint8": "uint8", "int8": "int8", "float16": "float16", "bfloat16": "uint16", "float32": "float32"}

SOURCE = "source"
"""The column that says which item a record is an edit of; null where it is none."""
SHARD_BYTES = 128 * 2**20
"""About the largest shard (assumption: what a task holds in memory, and small enough to give every core several)."""


@dataclass(frozen=True)
class Field:
    """One array of every record: its column name, shape and dtype (one of `STORED_AS`)."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Bytes per record."""
        return math.prod(self.shape) * np.dtype(STORED_AS[self.dtype]).itemsize


@dataclass(frozen=True)
class Shard:
    """One shard file: its name, split, number of records, size and SHA-256."""

    file: str
    split: str
    records: int
    bytes: int
    sha256: str


def image_field(resolution: int) -> Field:
    """The field of an image data set: (R, R, 3) uint8, rows top to bottom, RGB."""
    return Field("image", (resolution, resolution, 3), "uint8")


def write_shard(
    path: Path, split: str, fields: Mapping[Field, NDArray[np.generic]], columns: Mapping[str, pa.Array]
) -> Shard:
    """Write records: each field with its values (n, *shape), and plain columns of the same length.

    Raises:
        OSError: the file cannot be written (no space left, for instance); nothing is left behind.
    """
    arrays = dict(columns)
    for field, values in fields.items():
        assert values.shape[1:] == field.shape, f"{field.name}: {values.shape[1:]} is not {field.shape}"
        assert values.dtype == STORED_AS[field.dtype], f"{field.name}: {values.dtype} is not {field.dtype}"
        flat = pa.py_buffer(np.ascontiguousarray(values))
        arrays[field.name] = pa.FixedSizeBinaryArray.from_buffers(pa.binary(field.nbytes), len(values), [None, flat])
    described = [{"name": field.name, "shape": field.shape, "dtype": field.dtype} for field in fields]
    batch = pa.record_batch(arrays).replace_schema_metadata({"arrays": json.dumps(described), "split": split})
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with UncachedFile(temporary) as file, pa.ipc.new_file(pa.PythonFile(file, "w"), batch.schema) as writer:
            writer.write_batch(batch)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return Shard(path.name, split, batch.num_rows, file.size, file.hexdigest())


class ShardFile:
    """A shard opened by memory map: nothing is read from the disk until it is used."""

    def __init__(self, where: Path | pa.Buffer) -> None:
        """From a file, or from its bytes."""
        if isinstance(where, Path):
            with pa.memory_map(str(where)) as file:
                where = file.read_buffer()  # a view
        self._bytes = where
        self.batch = pa.ipc.open_file(self._bytes).get_batch(0)

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    def sha256(self) -> str:
        """Of all bytes of the file."""
        return hashlib.sha256(self._bytes).hexdigest()

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """What the schema says of the arrays."""
        described = json.loads(self.batch.schema.metadata[b"arrays"])
        return tuple(Field(field["name"], tuple(field["shape"]), field["dtype"]) for field in described)

    def array(self, name: str) -> NDArray[np.generic]:
        """One field of all records, (n, *shape), a view into the file (bfloat16 as its bits in uint16).

        Raises:
            KeyError: the shard has no such field.
        """
        field = next((field for field in self.fields if field.name == name), None)
        if field is None:
            raise KeyError(f"no array {name!r} - there are: {', '.join(field.name for field in self.fields)}")
        column = self.batch.column(name)
        return np.frombuffer(column.buffers()[1], STORED_AS[field.dtype]).reshape(len(self), *field.shape)

    def labels(self) -> NDArray[np.generic]:
        """(n,) class numbers.

        Raises:
            ValueError: not every record has one.
        """
        column = self.column("label")
        missing = len(self) if column is None else column.null_count
        if column is None or missing:
            raise ValueError(f"{missing} of {len(self)} records have no label")
        return np.from_dlpack(column)  # `to_numpy` imports pandas: longer than a first batch takes

    def column(self, name: str) -> pa.Array | None:
        """A plain column (`label`, `caption`, `item`, ...), or None if this data set has none."""
        return self.batch.column(name) if name in self.batch.schema.names else None
