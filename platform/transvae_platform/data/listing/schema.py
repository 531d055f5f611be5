"""What a listing is: one row per image in an Arrow table, and how layouts complete their rows to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import features

from transvae_platform.data.listing.broken import refuse_broken
from transvae_platform.data.sets.manifest import TEST
from transvae_platform.data.sets.stores import printable
from transvae_platform.errors import SpecError

_CODECS = {
    "jpg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "webp": (".webp",),
    "libtiff": (".tif", ".tiff"),
    "jpg_2000": (".jp2", ".j2k", ".j2c", ".jpx", ".jpf"),
    "avif": (".avif",),
}
"""What Pillow calls the libraries that it may lack -> suffixes of files that `decode.FORMATS` reads with them."""

IMAGE_SUFFIXES = (
    *(suffix for codec, suffixes in _CODECS.items() if features.check(codec) for suffix in suffixes),
    ".png", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip

LISTING_SCHEMA = pa.schema(
    {
        "name": pa.string(),  # unique within the source, relative, '/' between the parts
        "path": pa.string(),  # the file with the bytes: an absolute path or a URI (see `stores`)
        "offset": pa.int64(),  # where the bytes start inside a tar
        "size": pa.int64(),  # how many bytes; null for rows of tables
        "row": pa.int64(),  # row number inside a Parquet or Arrow file
        "column": pa.string(),  # the column with the bytes, such as `image.bytes`
        "split": pa.string(),  # train, validation or null
        "label": pa.int32(),  # index into the classes
        "caption": pa.string(),
        "stamp": pa.string(),  # cheap identity of the file: `size:mtime_ns`, on a store size and etag or time
    }
)

MOST_CLASSES = 1_000_000
"""Integer labels from here on are no class numbers but identities (assumption: ImageNet-21k has 21,841 classes)."""

MOST_TEXT = 2**31 - 1
"""Bytes of text in one array of Arrow's `string`, whose offsets have 32 bits."""

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""How sources name their splits. See `make_listing` for what becomes of `test`."""


@dataclass(frozen=True)
class Listing:
    """What a source holds: `table` (LISTING_SCHEMA, sorted by name), names of its classes, and its layout.

    `passed_over` says how many files were not looked at because of their suffix (in small letters; "" where there is
    none), the most frequent suffix first, and under TEST how many images of a test split were left out. `broken` says
    what is wrong with each file whose images are not in the table.
    """

    table: pa.Table
    classes: tuple[str, ...]
    layout: str
    passed_over: dict[str, int] = field(default_factory=dict)
    broken: tuple[str, ...] = ()


def make_listing(
    location: str, layout: str, rows: pa.Table, classes: Sequence[str] = (), broken: Sequence[str] = ()
) -> Listing:
    """Complete rows to a listing: missing columns are null, rows sorted by name.

    Rows of the split `test` are the validation split of a source without one; of a source with one they are left out.

    Raises:
        SpecError: there are no rows (all files that are broken are named), or a name occurs twice.
    """
    given, rows = len(rows), _settle_test(rows)
    if not rows.num_rows:
        refuse_broken(location, broken)
        raise SpecError(
            f"data.path: {printable(location)} holds no images ({', '.join(IMAGE_SUFFIXES)}, or tars, Parquet or Arrow "
            "files of them) - is it the right folder?"
        )
    table = pa.table(
        [
            rows[column.name].cast(column.type)
            if column.name in rows.column_names
            else pa.nulls(len(rows), column.type)
            for column in LISTING_SCHEMA
        ],
        schema=LISTING_SCHEMA,
    )
    if not is_sorted(table["name"]):
        table = _taken(table, pc.sort_indices(table["name"]))
    repeated = first_repeat(table["name"])
    if repeated is not None:
        raise SpecError(
            f"data.path: {printable(location)} holds two images named {printable(repeated)!r} - rename or remove one"
        )
    passed_over = {TEST: given - len(rows)} if given > len(rows) else {}
    return Listing(table.combine_chunks(), tuple(classes), layout, passed_over, tuple(broken))


def with_suffix(files: pa.Table, suffixes: Sequence[str]) -> pa.Table:
    """The files whose names end like one of the suffixes, in any case."""
    pattern = "|".join(re.escape(suffix) for suffix in suffixes)
    return files.filter(pc.match_substring_regex(files["name"], rf"(?i)(?:{pattern})\z"))


def split_in(name: str) -> str | None:
    """The split that a relative file name tells by whole words, the innermost part first: `data/train-0001.tar`."""
    for part in reversed(name.lower().split("/")):
        for word in re.split(r"[^a-z]+", part):
            if word in SPLIT_WORDS:
                return SPLIT_WORDS[word]
    return None


def map_strings(values: pa.ChunkedArray, function: Callable[[str], str | None]) -> pa.Array:
    """The function of every string, called once per distinct one."""
    codes = pa.chunked_array([values]).combine_chunks().dictionary_encode()
    return pa.array([function(value) for value in codes.dictionary.to_pylist()], pa.string()).take(codes.indices)


def encode_labels(location: str, values: pa.ChunkedArray) -> tuple[pa.Array, tuple[str, ...]]:
    """(labels, class names): strings become indices of their sorted set, integers stay and are their own names.

    Negative integers mean that there is no label. Nulls only: there are no classes.

    Raises:
        SpecError: an integer is too large for a class number.
    """
    if pa.types.is_integer(values.type):
        labels = pc.if_else(pc.less(values, 0), pa.scalar(None, values.type), values)
        most = pc.max(labels).as_py()
        if most is None:
            return pa.nulls(len(values), pa.int32()), ()
        if most >= MOST_CLASSES:
            raise SpecError(f"data.path: {printable(location)} has the label {most}, which is no class number")
        return labels.cast(pa.int32()), tuple(map(str, range(most + 1)))
    values = values.cast(pa.string())
    classes = pc.unique(values).drop_null()
    classes = classes.take(pc.sort_indices(classes))
    return pc.index_in(values, value_set=classes, skip_nulls=True), tuple(classes.to_pylist())


def is_sorted(values: pa.ChunkedArray) -> bool:
    """Whether values ascend (equal neighbours allowed)."""
    return len(values) < 2 or bool(pc.all(pc.less_equal(values[:-1], values[1:])).as_py())


def first_repeat(values: pa.ChunkedArray) -> str | None:
    """The first of two equal neighbours in sorted values, else None."""
    if len(values) < 2:
        return None
    index = pc.index(pc.equal(values[1:], values[:-1]), True).as_py()
    repeated: str | None = None if index < 0 else values[index].as_py()
    return repeated


def _taken(table: pa.Table, order: pa.Array) -> pa.Table:
    """The rows in this order, however long their texts are: Arrow joins those of a column before it takes them."""
    wide = [pa.field(field.name, pa.large_string() if pa.types.is_string(field.type) else field.type)
            for field in table.schema]  # fmt: skip
    joined = table.cast(pa.schema(wide)).combine_chunks()
    texts = [column for column in joined.columns if pa.types.is_large_string(column.type)]
    lengths = sum(pc.fill_null(pc.binary_length(text), 0).to_numpy().astype(np.int64) for text in texts)
    ends = np.cumsum(lengths[order.to_numpy()])
    pieces, start = [], 0
    while start < len(order):
        room = MOST_TEXT + (int(ends[start - 1]) if start else 0)
        stop = max(start + 1, int(np.searchsorted(ends, room, side="right")))
        pieces.append(joined.take(order[start:stop]).cast(table.schema))
        start = stop
    return pa.concat_tables(pieces)


def _settle_test(rows: pa.Table) -> pa.Table:
    if "split" not in rows.column_names or not pc.any(pc.equal(rows["split"], "test")).as_py():
        return rows
    is_test = pc.fill_null(pc.equal(rows["split"], "test"), False)
    if pc.any(pc.equal(rows["split"], "validation")).as_py():
        return rows.filter(pc.invert(is_test))
    settled = pc.if_else(is_test, "validation", rows["split"])
    return rows.set_column(rows.column_names.index("split"), "split", settled)
