"""Captions of images that have none beside them: a JSON Lines file, one object per image.

    {"file_name": "rocket.jpg", "caption": "a rocket on its pad"}
    {"file_name": "rocket-at-night.jpg", "caption": "make it night", "source": "rocket.jpg"}

`file_name` is the image's name in its source, or the end of it after a `/`; the text is `caption` or `text` (Hugging
Face's `metadata.jsonl` has `file_name` and `text`). With `source`, the name of another image, the image is an edit of
that one and its caption the instruction. Lines for images that the source does not have are refused, images without a
line have no caption.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from transvae_platform.data.listing.schema import Listing
from transvae_platform.data.sets.shards import SOURCE
from transvae_platform.errors import SpecError

KEYS = ("caption", "text")


class _Line(NamedTuple):
    caption: str
    source: str | None


def with_captions(listing: Listing, path: Path) -> Listing:
    """The listing with the captions of a file; with a column `source`, the row of what an edit is of, if it has edits.

    Raises:
        SpecError: the file is missing or not of this form, or names an image that is not there, or not a single one.
    """
    rows = {name: row for row, name in enumerate(listing.table["name"].to_pylist())}
    ends: dict[str, list[str]] = {}
    for name in rows:
        ends.setdefault(name.rpartition("/")[2], []).append(name)

    def row_of(name: str) -> int:
        found = [name] if name in rows else ends.get(name, [])
        if len(found) != 1:
            which = "no image" if not found else f"{len(found)} images, {found[0]} and others,"
            raise SpecError(f"data.captions: {path}: {which} of the source is named {name} - correct the name")
        return rows[found[0]]

    captions: list[str | None] = [None] * len(rows)
    sources: list[int | None] = [None] * len(rows)
    for name, line in _read(path).items():
        row = row_of(name)
        captions[row], sources[row] = line.caption, None if line.source is None else row_of(line.source)
    place = listing.table.schema.get_field_index("caption")
    table = listing.table.set_column(place, "caption", pa.array(captions, pa.string()))
    if any(source is not None for source in sources):
        table = table.append_column(SOURCE, pa.array(sources, pa.int64()))
    return replace(listing, table=table)


def _read(path: Path) -> dict[str, _Line]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"data.captions: {path} cannot be read ({error}) - give a JSON Lines file") from None
    given: dict[str, _Line] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            name, caption = values["file_name"], next(values[key] for key in KEYS if key in values)
            source = values.get("source", "none")
        except (ValueError, KeyError, TypeError, StopIteration):
            name = caption = source = None
        if not (all(isinstance(text, str) for text in (name, caption, source)) and caption.strip()):
            raise SpecError(
                f"data.captions: {path}, line {number}: not of the form "
                '{"file_name": "a.jpg", "caption": "what it shows"}, with "source": "b.jpg" for an edit - correct it'
            )
        if name in given:
            raise SpecError(f"data.captions: {path}, line {number}: {name} has two captions - remove one")
        given[name] = _Line(caption, values.get("source"))
    return given
