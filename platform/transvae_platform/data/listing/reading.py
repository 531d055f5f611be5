"""Reads the bytes of a slice of a listing, in its order, whatever holds them.

1. Rows that follow each other and lie in the same file open it once.
2. Of a Parquet file only row groups with wanted rows are read, each once, a page (by the format below 2 GiB) and BATCH
   rows at a time; of an Arrow file one batch at a time. A slice in the order of its listing therefore reads nothing
   twice.
3. What is missing or damaged costs the images that it holds. A store that fails in another way stops the reading, and
   so does a fault of this machine: an outage must not look like damaged images.
"""

from __future__ import annotations

import errno
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate, groupby
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transvae_platform.data.listing.tables import is_parquet, open_arrow
from transvae_platform.data.sets.stores import first_line, local_path, map_file, open_bytes, open_file, printable
from transvae_platform.errors import UnreachableError

ROWS = 4096
"""Rows of the listing held as Python objects at a time (assumption)."""

BATCH = 1
"""Rows of a Parquet file held at a time: how large a row is shows only then (32 save 10 of 50 microseconds per row)."""

BUFFER = 1 << 20
"""Bytes of a Parquet column read at a time, rather than a whole column chunk (assumption)."""


MOST_BYTES = 1 << 30
"""A larger file, member or row is not read (assumption: `decode.MAX_PIXELS` of uncompressed 16-bit RGB are 0.9 GB)."""


MACHINE = {errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ETIMEDOUT, errno.ENOTCONN}
"""What goes wrong with a disk, a mount or a process, not with one file: no image is left out because of it."""


UNREAD = ("its file is missing", "it cannot be read")
"""How a reason begins that lies in the files' places and permissions rather than in their bytes."""


class _Row(NamedTuple):
    run: int  # rows of one run lie in one file, and those of tables ascend
    position: int
    path: str
    offset: int | None
    size: int | None
    row: int | None
    column: str | None


Item = tuple[int, bytes | None, str]


def read_items(table: pa.Table) -> Iterator[Item]:
    """(position in the table, content, reason) of each row of a slice of a listing, in order.

    The content is None where it cannot be read; the reason says why, and is empty otherwise.

    Raises:
        UnreachableError: a store fails although the file is not missing.
    """
    for file, rows in groupby(_rows(table), key=lambda row: (row.run, row.path, row.column, row.row is None)):
        _, path, column, is_bytes = file
        yield from _run(path, column, is_bytes, rows)


def _run(path: str, column: str | None, is_bytes: bool, rows: Iterator[_Row]) -> Iterator[Item]:
    try:
        if is_bytes or column is None:
            yield from _from_file(path, rows)
        else:
            yield from (_from_parquet if is_parquet(path) else _from_arrow)(path, column, rows)
    except (OSError, pa.ArrowInvalid) as error:  # the file could not be opened: no row was taken yet
        reason = _reason(path, error)
        yield from ((row.position, None, reason) for row in rows)


def _rows(table: pa.Table) -> Iterator[_Row]:
    run, position, path, column, number = 0, 0, None, None, None
    for batch in table.select(["path", "offset", "size", "row", "column"]).to_batches(max_chunksize=ROWS):
        for values in zip(*(values.to_pylist() for values in batch.columns), strict=True):
            back = number is not None and values[3] is not None and values[3] < number
            if values[0] != path or values[4] != column or back:
                run += 1
            path, column, number = values[0], values[4], values[3]
            yield _Row(run, position, *values)
            position += 1


def _from_file(path: str, rows: Iterator[_Row]) -> Iterator[Item]:
    """A whole file, or members of a tar."""
    with open_bytes(path) as file:
        for row in rows:
            if (row.size or 0) > MOST_BYTES:
                yield row.position, None, _too_large(row.size or 0)
                continue
            try:
                file.seek(row.offset or 0)
                content = file.read() if row.offset is None else file.read(row.size or 0)
            except (OSError, pa.ArrowInvalid) as error:
                yield row.position, None, _reason(row.path, error)
                continue
            if row.offset is not None and len(content) != row.size:
                yield row.position, None, f"its tar ends after {len(content)} of its {row.size} bytes"
            else:
                yield row.position, content, ""


def _from_parquet(path: str, column: str, rows: Iterator[_Row]) -> Iterator[Item]:
    with open_file(path) as file, pq.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False) as parquet:
        counts = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
        ends = list(accumulate(counts))
        for group, wanted in groupby(rows, key=lambda row: bisect_right(ends, row.row)):
            if group == len(ends):  # the file was shortened since it was listed
                yield from _from_batches(iter(()), 0, wanted)
                continue
            batches = parquet.iter_batches(BATCH, row_groups=[group], columns=[column])
            yield from _from_batches(batches, ends[group] - counts[group], wanted)


def _from_arrow(path: str, column: str, rows: Iterator[_Row]) -> Iterator[Item]:
    with map_file(path) as file:
        schema, _ = open_arrow(file)
        _, batches = open_arrow(file, [column if column in schema.names else column.rpartition(".")[0]])
        yield from _from_batches(batches, 0, rows)


def _from_batches(batches: Iterator[pa.RecordBatch], start: int, rows: Iterator[_Row]) -> Iterator[Item]:
    """Ascending rows out of batches, of which the first begins with the row `start`."""
    stop, values, trouble = start, None, ""
    for row in rows:
        assert row.row is not None, "a run of table rows has row numbers"
        try:
            while row.row >= stop and not trouble:
                batch = next(batches)
                start, stop, values = stop, stop + batch.num_rows, _values(batch, str(row.column))
        except StopIteration:
            trouble = f"its table ends before row {row.row}"
        except (OSError, pa.ArrowInvalid, KeyError) as error:
            trouble = _reason(row.path, error)
        if values is None or row.row >= stop:
            yield row.position, None, trouble
        elif (size := _size(values, row.row - start)) > MOST_BYTES:
            yield row.position, None, _too_large(size)
        else:
            content = values[row.row - start].as_py()
            yield row.position, content, "" if content is not None else "its row holds no bytes"


def _values(batch: pa.RecordBatch, column: str) -> pa.Array:
    if column in batch.schema.names:
        return batch.column(column)
    parent, _, field = column.rpartition(".")
    return pc.struct_field(batch.column(parent), field)


def _size(values: pa.Array, index: int) -> int:
    """Bytes of one of several values, of which none is copied; 0 of a null."""
    if pa.types.is_binary_view(values.type):  # not known to `binary_length`; each view begins with its length
        views = np.frombuffer(values.buffers()[1], np.int32)
        return int(views[4 * (values.offset + index)]) if values[index].is_valid else 0
    return pc.binary_length(values.slice(index, 1))[0].as_py() or 0


def _too_large(size: int) -> str:
    return f"its {size} bytes are above the limit of {MOST_BYTES}"


def _reason(path: str, error: Exception) -> str:
    """Why bytes cannot be read.

    Raises:
        UnreachableError: it is not the file's fault.
    """
    if isinstance(error, FileNotFoundError):
        return UNREAD[0]
    if getattr(error, "errno", None) in MACHINE and local_path(path) is not None:
        raise UnreachableError(
            f"data.path: {printable(path)} cannot be read ({first_line(error)}), which is no fault of the image - mend "
            "the disk, the mount or the limit of this machine; the same command continues"
        ) from None
    if isinstance(error, OSError) and not isinstance(error, PermissionError) and local_path(path) is None:
        raise UnreachableError(
            f"data.path: {printable(path)} cannot be read ({first_line(error)}) - is the store up?"
        ) from None
    return f"{UNREAD[1]} ({first_line(error)})"
