"""Tars in the convention of webdataset: members that follow each other and share a key are one sample.

The key of `train/0001.seg.png` is `train/0001` (the folder, and the base name up to its first dot), its part `seg.png`.
The image of a sample is its part with an image suffix: a plain one (`jpg`) if there is one, else one like `img.png`.
Labels come from the part `cls` or the JSON key `label`, captions from `txt` or the JSON keys `caption`, `text` or
`captions` (of a list the first). Links inside tars, hidden members and samples without an image are left out. The split
is told by the tar's name. A `classes.json` beside the tars, on top, is a list that names the classes of integer labels.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from transvae_platform.data.listing.broken import list_each
from transvae_platform.data.listing.detect import CLASSES, TAR_SUFFIXES
from transvae_platform.data.listing.schema import (
    IMAGE_SUFFIXES,
    LISTING_SCHEMA,
    Listing,
    encode_labels,
    make_listing,
    split_in,
    with_suffix,
)
from transvae_platform.data.sets.stores import as_utf8, open_file, printable, reaching
from transvae_platform.errors import SpecError

BUFFER = 65_536
"""Bytes read at a time: the header, and with luck the small parts of a sample (assumption)."""

MOST_TEXT = 1 << 26
"""Bytes of a member with a label or caption (assumption: they are read whole, a longer one is something else)."""

SHOWN = 60
"""Characters of a wrong value that an error shows."""

_KEY = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL)
_INTEGER = re.compile(r"-?[0-9]{1,18}")  # of 64 bits


class _Part(NamedTuple):
    key: str
    kind: str
    name: str
    offset: int
    size: int


def list_tars(location: str, files: pa.Table) -> Listing:
    """The samples of all tars.

    Broken is a tar that is compressed, damaged or cut off, holds a key twice, or several images in one sample.

    Raises:
        SpecError: no tar holds images, or a label is no class.
    """
    tars = with_suffix(files, TAR_SUFFIXES).sort_by("name").to_pylist()
    pieces, broken = list_each(_samples_of_tar, tars)
    if not pieces:
        return make_listing(location, "webdataset", LISTING_SCHEMA.empty_table(), broken=broken)
    rows = pa.concat_tables(pieces)
    words = rows["label"]
    if len(words) > words.null_count and pc.all(pc.match_substring_regex(words, rf"^{_INTEGER.pattern}\z")).as_py():
        words = words.cast(pa.int64())
    labels, classes = encode_labels(location, words)
    if pa.types.is_integer(words.type):
        classes = _names_of(files, classes)
    rows = rows.set_column(rows.column_names.index("label"), "label", labels)
    return make_listing(location, "webdataset", rows, classes, broken)


def _names_of(files: pa.Table, numbers: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the classes with these numbers, if a file says them, else the numbers."""
    found = files.filter(pc.equal(files["name"], CLASSES))["path"].to_pylist()
    if not found or not numbers:
        return numbers
    with reaching(found[0]), open_file(found[0]) as file:
        content = file.read()
    try:
        names = json.loads(content)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) < len(numbers):
        raise SpecError(
            f"data.path: {printable(found[0])} is no list of names for {len(numbers)} classes - mend or remove it"
        )
    return tuple(map(as_utf8, names))


def _samples_of_tar(name: str, path: str, size: int, stamp: str) -> pa.Table:
    del size  # the size of the tar is in its stamp
    if not name.lower().endswith(".tar"):
        raise SpecError(f"data.path: {printable(path)} is compressed, so nothing can be found in it - gunzip it")
    names, offsets, sizes, labels, captions = [], list[int](), list[int](), list[str | None](), list[str | None]()
    keys: set[str] = set()
    with reaching(path), io.BufferedReader(open_file(path), BUFFER) as file:
        for key, members in groupby(_parts(file, path), key=lambda part: part.key):
            if key in keys:
                raise SpecError(
                    f"data.path: {printable(path)} holds the key {printable(key)!r} twice, or the files of that sample "
                    "do not follow each other - pack the tar again, sorted by name"
                )
            keys.add(key)
            parts = _by_kind(list(members), path)
            image = _image_of(parts, path)
            if image is None:
                continue
            label, caption = _attributes(file, parts, path)
            names.append(f"{name}/{as_utf8(image.name)}")
            offsets.append(image.offset)
            sizes.append(image.size)
            labels.append(label)
            captions.append(caption)
    count = len(names)
    columns = [names, pa.repeat(path, count), offsets, sizes, labels, captions, pa.repeat(stamp, count)]
    fields = [LISTING_SCHEMA.field(field) for field in ("name", "path", "offset", "size")]
    fields += [pa.field("label", pa.string()), LISTING_SCHEMA.field("caption"), LISTING_SCHEMA.field("stamp")]
    table = pa.table(
        [
            pa.array(column, field.type) if isinstance(column, list) else column
            for column, field in zip(columns, fields, strict=True)
        ],
        schema=pa.schema(fields),
    )
    return table.append_column("split", pa.repeat(pa.scalar(split_in(name), pa.string()), count))


def _parts(file: io.BufferedReader, path: str) -> Iterator[_Part]:
    """The regular members of a tar, in order."""
    try:
        with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
            before = -1
            while (member := tar.next()) is not None:
                if tar.offset <= before:  # a header of a negative size: tarfile would read the same members for ever
                    raise tarfile.ReadError(f"a member at byte {member.offset} leads backwards")
                before = tar.offset
                tar.members.clear()  # type: ignore[attr-defined] # a tar of a million files would keep them all
                match = _KEY.fullmatch(member.name.removeprefix("./"))
                if match and member.isreg() and not member.issparse():
                    yield _Part(match[1], match[2].lower(), match[0], member.offset_data, member.size)
            end = tar.offset
    except tarfile.TarError as error:
        raise SpecError(f"data.path: {printable(path)} is no whole tar ({error}) - download or pack it again") from None
    file.seek(end)  # tarfile takes a damaged header, or the end of the file, for the end of the tar
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise SpecError(f"data.path: {printable(path)} is damaged or cut off at byte {end} - download or pack it again")


def _by_kind(members: list[_Part], path: str) -> dict[str, _Part]:
    parts = {part.kind: part for part in members}
    if len(parts) < len(members):
        raise SpecError(
            f"data.path: {printable(path)} holds a file of {printable(members[0].key)!r} twice - remove one"
        )
    return parts


def _image_of(parts: dict[str, _Part], path: str) -> _Part | None:
    images = [part for kind, part in parts.items() if f".{kind}".endswith(IMAGE_SUFFIXES)]
    plain = [part for part in images if "." not in part.kind]
    if len(plain or images) > 1:
        names = ", ".join(printable(part.name) for part in plain or images)
        raise SpecError(f"data.path: {printable(path)} has several images in one sample ({names}) - keep one of them")
    return next(iter(plain or images), None)


def _attributes(file: io.BufferedReader, parts: dict[str, _Part], path: str) -> tuple[str | None, str | None]:
    """(label, caption) of a sample, both as text."""
    for kind in ("cls", "txt", "json"):
        if kind in parts and parts[kind].size > MOST_TEXT:
            raise SpecError(
                f"data.path: {printable(path)}: {printable(parts[kind].name)} has {parts[kind].size} bytes, above the "
                f"limit of {MOST_TEXT} for labels and captions - remove it"
            )
    label, caption = _text(file, parts.get("cls")), _text(file, parts.get("txt"))
    if "json" in parts and (label is None or caption is None):
        try:
            values = json.loads(_text(file, parts["json"]) or "null")
        except (ValueError, RecursionError):  # the latter: nested without end
            name = printable(parts["json"].name)
            raise SpecError(f"data.path: {printable(path)}: {name} is no JSON - mend or remove it") from None
        if isinstance(values, dict):
            where = f"{printable(path)}: {printable(parts['json'].name)}"
            label = _word(values.get("label"), "label", where) if label is None else label
            found = next((values[key] for key in ("caption", "text", "captions") if values.get(key)), None)
            found = found[0] if isinstance(found, list) else found
            caption = _word(found, "caption", where) if caption is None else caption
    return (label.strip() or None) if label else None, caption


def _text(file: io.BufferedReader, part: _Part | None) -> str | None:
    if part is None:
        return None
    file.seek(part.offset)
    return file.read(part.size).decode("utf-8", "replace")


def _word(value: Any, role: str, where: str) -> str | None:
    if isinstance(value, float) and value.is_integer():  # 3.0: pandas writes whole numbers with gaps so
        value = int(value)
    if value is not None and (not isinstance(value, (str, int)) or isinstance(value, bool)):
        shown = printable(json.dumps(value))[:SHOWN]
        raise SpecError(f"data.path: {where} has the {role} {shown}, which is no word or whole number - mend it")
    return None if value is None else str(value)
