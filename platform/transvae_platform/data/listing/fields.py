"""Which columns of a table hold the image, its label and its caption: by their types, names and `datasets` features."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from transvae_platform.data.sets.stores import printable
from transvae_platform.errors import SpecError
from transvae_platform.study.data_spec import EditColumns

CAPTION_NAMES = ("caption", "text", "captions")
LABEL_NAMES = ("label", "labels", "cls", "class")


@dataclass(frozen=True)
class Fields:
    """Columns of a table: the dotted one of the image bytes, label and caption if there are; names of the classes."""

    image: str
    label: str | None
    caption: str | None
    classes: tuple[str, ...]


def find_fields(schema: pa.Schema, where: str) -> Fields:
    """The columns of a table.

    An image is a struct with a field `bytes`, or a binary column; where the schema carries the features of `datasets`,
    those of type Image. A label is the column `label`, else the ClassLabel features, else other LABEL_NAMES. A caption
    is a string, or a list of strings, of any of Arrow's types for them, named like one of CAPTION_NAMES.

    Raises:
        SpecError: there is no image column, there are several candidates for a role, the only candidate for label or
            caption is of another type, or the features name no classes.
    """
    features = _features(schema)
    binary = [name for field in schema if (name := _bytes_column(field))]
    marked = [name for name in binary if _kind(features, name) == "Image"]
    images = marked or [name for name in binary if _kind(features, name) in (None, "Image", "Value")]
    image = _only("image", images, where, "; where one is an edit of the other, name both in data.edits (--edits)")
    if image is None:
        raise SpecError(
            f"data.path: {where} has no image column ({_named(schema.names) or 'no columns'}) - images are expected "
            "as encoded bytes in a binary column, or in a struct with a field `bytes`"
        )
    labels = [field.name for field in schema if field.name in LABEL_NAMES and _is_label(field.type)]
    marked = [field.name for field in schema if _kind(features, field.name) == "ClassLabel" and _is_label(field.type)]
    _refuse_other_labels(schema, labels or marked, where)
    label = "label" if labels.count("label") == 1 else _only("label", marked or labels, where)
    classes = features.get(label, {}).get("names") if label else None
    if classes is not None and not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
        raise SpecError(
            f"data.path: {where}: the features of {printable(str(label))!r} name no classes - save the data set again"
        )
    return Fields(image, label, _caption(schema, where), tuple(map(printable, classes or ())))


def find_edit_fields(schema: pa.Schema, where: str, columns: EditColumns) -> tuple[Fields, Fields]:
    """Those of edits, and those of their sources, in a table that holds both in one row; labels are not read.

    Raises:
        SpecError: a column is missing, or of another type.
    """

    def typed(key: str, what: str, found: Callable[[pa.Field], str | None]) -> str:
        name = getattr(columns, key)
        column = found(schema.field(name)) if schema.names.count(name) == 1 else None
        if column is None:
            raise SpecError(
                f"data.path: {where} has no column {printable(name)!r} of {what}, which data.edits.{key} names "
                f"({_named(schema.names) or 'no columns'}) - correct the name"
            )
        return column

    source, edit = (typed(key, "encoded images", _bytes_column) for key in ("source", "edit"))
    instruction = typed("instruction", "strings", _caption_column)
    caption = typed("caption", "strings", _caption_column) if columns.caption is not None else None
    return Fields(edit, None, instruction, ()), Fields(source, None, caption, ())


def _refuse_other_labels(schema: pa.Schema, labels: Sequence[str], where: str) -> None:
    """Where no column can be the label, none of its names may hold something else: it would be dropped silently."""
    named = [field for field in schema if field.name in LABEL_NAMES and not pa.types.is_null(field.type)]
    if named and not labels:
        what = printable(", ".join(f"{field.name} of type {field.type}" for field in named))
        raise SpecError(
            f"data.path: {where} has labels that are neither numbers nor strings ({what}) - cast or rename the column"
        )


def plain_labels(values: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    """Labels as int64 or strings. Whole floats are integers: pandas writes those with gaps so, as NaN.

    Raises:
        SpecError: a label is a fraction.
        pa.ArrowInvalid: one is above 64 bits, or no UTF-8.
    """
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_floating(values.type):
        values = values.cast(pa.float64())  # of 16 bits Arrow computes nothing
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
        broken = values.filter(pc.not_equal(values, pc.round(values)))
        if len(broken):
            raise SpecError(
                f"data.path: {where} has the label {broken[0]}, which is no class - drop or rename the column"
            )
    numbers = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
    plain = values.cast(pa.int64() if numbers else pa.string())
    plain.validate(full=True)  # Parquet holds any bytes as text
    return plain


def plain_captions(values: pa.ChunkedArray) -> pa.Array:
    """Captions as strings: of a list its first, null for an empty one.

    Raises:
        pa.ArrowInvalid: one is no UTF-8.
    """
    array = pa.chunked_array([values]).combine_chunks() if isinstance(values, pa.Array) else values.combine_chunks()
    if pa.types.is_fixed_size_list(array.type):
        array = array.cast(pa.list_(array.type.value_type))
    if _is_list(array.type):
        first = pc.list_slice(array, 0, 1)
        is_there = pc.greater(pc.fill_null(pc.list_value_length(first), 0), 0)
        at = pc.subtract(pc.cumulative_sum(is_there.cast(pa.int64())), 1)
        array = pc.list_flatten(first).cast(pa.string()).take(pc.if_else(is_there, at, pa.scalar(None, pa.int64())))
    plain = array.cast(pa.string())
    plain.validate(full=True)
    return plain


def _caption(schema: pa.Schema, where: str) -> str | None:
    named = [field for field in schema if field.name in CAPTION_NAMES and not pa.types.is_null(field.type)]
    captions = [field.name for field in named if _is_caption(field.type)]
    if named and not captions:
        what = printable(", ".join(f"{field.name} of type {field.type}" for field in named))
        raise SpecError(f"data.path: {where} has captions that are no strings ({what}) - cast or rename the column")
    return _only("caption", captions, where)


def _features(schema: pa.Schema) -> dict[str, Any]:
    """The features that `datasets` writes into a schema, {} if it did not write it."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    if not isinstance(features, dict):
        return {}
    return {name: value for name, value in features.items() if isinstance(value, dict)}


def _kind(features: dict[str, Any], column: str) -> str | None:
    kind = features.get(column, features.get(column.removesuffix(".bytes"), {})).get("_type")
    return None if kind is None else str(kind)


def _only(role: str, names: Sequence[str], where: str, hint: str = "") -> str | None:
    if len(names) > 1:
        raise SpecError(
            f"data.path: {where} has several columns that could be the {role} ({_named(names)}) - keep one of "
            f"them, or rename the others{hint}"
        )
    return names[0] if names else None


def _named(columns: Sequence[str]) -> str:
    return ", ".join(map(printable, columns))


def _bytes_column(field: pa.Field) -> str | None:
    if _is_binary(field.type):
        return str(field.name)
    if pa.types.is_struct(field.type):
        index = field.type.get_field_index("bytes")
        if index >= 0 and _is_binary(field.type.field(index).type):
            return f"{field.name}.bytes"
    return None


def _caption_column(field: pa.Field) -> str | None:
    return str(field.name) if _is_caption(field.type) else None


def _any_of(*tests: Callable[[pa.DataType], bool]) -> Callable[[pa.DataType], bool]:
    return lambda kind: any(test(kind) for test in tests)


_is_binary = _any_of(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
_is_string = _any_of(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_is_list = _any_of(
    pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view,
    pa.types.is_large_list_view,
)  # fmt: skip


def _is_label(kind: pa.DataType) -> bool:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_integer(plain) or pa.types.is_floating(plain)) or _is_string(plain)


def _is_caption(kind: pa.DataType) -> bool:
    inner = kind.value_type if _is_list(kind) else kind
    return _is_string(inner.value_type if pa.types.is_dictionary(inner) else inner)
