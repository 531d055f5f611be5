"""Parquet and Arrow files: one image per row, or an image with an edit of it (`edits.py`). Only footers, schemas,
labels and captions are read while listing.

The split is told by a file's name (`data/train-00000-of-00001.parquet`, `validation/0000.parquet`). An Arrow file may
be of the file or of the stream format; a stream has no index, so one on a store is read through once while listing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transvae_platform.data.listing.broken import list_each
from transvae_platform.data.listing.detect import TABLE_SUFFIXES
from transvae_platform.data.listing.edits import EDIT_PART, SOURCE_PART
from transvae_platform.data.listing.fields import (
    LABEL_NAMES,
    Fields,
    find_edit_fields,
    find_fields,
    plain_captions,
    plain_labels,
)
from transvae_platform.data.listing.schema import (
    LISTING_SCHEMA,
    Listing,
    encode_labels,
    make_listing,
    map_strings,
    split_in,
    with_suffix,
)
from transvae_platform.data.sets.stores import first_line, local_path, map_file, open_file, printable, reaching
from transvae_platform.errors import SpecError
from transvae_platform.study.data_spec import EditColumns

ARROW_MAGIC = b"ARROW1"
"""The first bytes of Arrow's file format; a stream begins otherwise."""

LABEL_FOLDER = re.compile(rf"(?:^|/)(?:{'|'.join(LABEL_NAMES)})=[^/]*/")
"""A folder of a table that was written in partitions by its label, as Hive and Spark do."""

DIGITS = 6
"""Row numbers in names are padded, so that they sort like numbers."""


def list_tables(location: str, files: pa.Table, edits: EditColumns | None = None) -> Listing:
    """The rows of all Parquet and Arrow files; with `edits` two images of each, whose labels are not read.

    Broken is a file that cannot be read, or whose image, label or caption column is missing or ambiguous.

    Raises:
        SpecError: no file holds rows, the labels or class names of two files do not go together, or labels are told by
            folders only.
    """
    tables = with_suffix(files, TABLE_SUFFIXES)
    return list_rows(
        location, "parquet", tables.append_column("split", map_strings(tables["name"], split_in)), edits=edits
    )


def list_rows(
    location: str, layout: str, files: pa.Table, broken: Sequence[str] = (), edits: EditColumns | None = None
) -> Listing:
    """As `list_tables`, for exactly these files, which have a column `split`, and beside those broken already."""
    results, unread = list_each(partial(_rows_of_file, edits), files.sort_by("name").to_pylist())
    broken = (*broken, *unread)
    classes = {fields.classes: fields for _, fields in results if fields.classes}
    if len(classes) > 1:
        raise SpecError(f"data.path: {printable(location)} has files with different class names - give one of the sets")
    names: tuple[str, ...] = next(iter(classes), ())
    _refuse_lost_labels(location, results)
    pieces = [rows for rows, _ in results if len(rows)]
    if not pieces:
        return make_listing(location, layout, LISTING_SCHEMA.empty_table(), broken=broken)
    kinds = {rows["label"].type for rows in pieces} - {pa.null()}
    if len(kinds) > 1:
        raise SpecError(f"data.path: {printable(location)} has numbers as labels in some files and words in others")
    rows = pa.concat_tables(pieces, promote_options="default")
    if kinds:
        labels, found = encode_labels(location, rows["label"])
        if names and len(found) > len(names):
            raise SpecError(f"data.path: {printable(location)} has the label {found[-1]} of {len(names)} classes")
        names = names or found
        rows = rows.set_column(rows.column_names.index("label"), "label", labels)
    return make_listing(location, layout, rows, names, broken)


def _refuse_lost_labels(location: str, results: Sequence[tuple[pa.Table, Fields]]) -> None:
    for rows, fields in results:
        if not fields.label and len(rows) and LABEL_FOLDER.search(name := rows["name"][0].as_py()):
            raise SpecError(
                f"data.path: {printable(location)}: the label of {printable(name)} is told by the name of its folder "
                "only, which is not read - write it into the files as a column `label` (a pyarrow.dataset with "
                "partitioning='hive' has it), or rename the folder"
            )


def open_arrow(file: pa.NativeFile, columns: Sequence[str] = ()) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """(schema of what is read, batches) of an Arrow file of either format; without `columns` everything is read.

    A mapped file is read only where somebody looks at the values.
    """
    file.seek(0)
    is_file = file.read(len(ARROW_MAGIC)) == ARROW_MAGIC
    opener = pa.ipc.open_file if is_file else pa.ipc.open_stream
    file.seek(0)
    reader = opener(file)
    if columns:
        included = [reader.schema.get_field_index(name) for name in columns]
        file.seek(0)
        reader = opener(file, options=pa.ipc.IpcReadOptions(included_fields=included))
    return reader.schema, (map(reader.get_batch, range(reader.num_record_batches)) if is_file else iter(reader))


def is_parquet(path: str) -> bool:
    """Whether a path or URI names a Parquet file."""
    name = path if local_path(path) is not None else path.partition("?")[0]  # a URI may have a query
    return name.lower().endswith(".parquet")


def _rows_of_file(
    edits: EditColumns | None, name: str, path: str, size: int, stamp: str, split: str | None
) -> tuple[pa.Table, Fields]:
    try:
        with reaching(path):
            count, texts, images = (_read_parquet if is_parquet(path) else _read_arrow)(path, edits)
            read = [_attributes(texts, fields, count, printable(path)) for fields in images.values()]
    except pa.ArrowInvalid as error:
        raise SpecError(
            f"data.path: {printable(path)} cannot be read ({first_line(error)}) - mend or remove it"
        ) from None
    digits = max(DIGITS, len(str(count - 1)))
    numbers = pa.array(np.arange(count, dtype=np.int64))
    padded = pc.utf8_lpad(numbers.cast(pa.string()), digits, "0")
    pieces = [
        pa.table(
            {
                "name": pc.binary_join_element_wise(f"{name}/{part}", padded, ""),
                "path": pa.repeat(path, count),
                "row": numbers,
                "column": pa.repeat(fields.image, count),
                "split": pa.repeat(pa.scalar(split, pa.string()), count),
                "label": labels,
                "caption": captions,
                "stamp": pa.repeat(stamp, count),
            }
        )
        for (part, fields), (labels, captions) in zip(images.items(), read, strict=True)
    ]
    return pa.concat_tables(pieces), next(iter(images.values()))


_Images = dict[str, Fields]
"""The columns of each image of a row, by what stands before the row's number in the image's name."""
_Read = tuple[int, pa.Table | None, _Images]
"""How many rows, the columns with their labels and captions, and which those are."""


def _images_of(schema: pa.Schema, path: str, edits: EditColumns | None) -> tuple[_Images, list[str]]:
    """What a row holds, and the columns that are read to list it."""
    where = printable(path)
    if edits is None:
        images = {"": find_fields(schema, where)}
    else:
        images = dict(zip((EDIT_PART, SOURCE_PART), find_edit_fields(schema, where, edits), strict=True))
    wanted = [name for fields in images.values() for name in (fields.label, fields.caption) if name]
    return images, list(dict.fromkeys(wanted))


def _read_parquet(path: str, edits: EditColumns | None) -> _Read:
    with open_file(path) as file, pq.ParquetFile(file) as parquet:
        images, wanted = _images_of(parquet.schema_arrow, path, edits)
        return parquet.metadata.num_rows, parquet.read(columns=wanted) if wanted else None, images


def _read_arrow(path: str, edits: EditColumns | None) -> _Read:
    with map_file(path) as file:
        images, wanted = _images_of(open_arrow(file)[0], path, edits)
        count, pieces = 0, []
        for batch in open_arrow(file, wanted)[1]:
            count += batch.num_rows
            pieces += [pa.table(batch)] if wanted else []
        return count, pa.concat_tables(pieces) if pieces else None, images


def _attributes(table: pa.Table | None, fields: Fields, count: int, where: str) -> tuple[pa.Array, pa.Array]:
    """(labels, captions) of a file; labels of type null if it has none."""
    labels, captions = pa.nulls(count), pa.nulls(count, pa.string())
    if table is not None and fields.label:
        labels = plain_labels(table[fields.label], where)
    if table is not None and fields.caption:
        captions = plain_captions(table[fields.caption])
    return labels, captions
