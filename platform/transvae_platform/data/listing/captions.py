"""Captions of images that have none beside them: a JSON Lines file, one object per image.

    {"file_name": "rocket.jpg", "caption": "a rocket on its pad"}

`file_name` is the image's name in its source, or the end of it after a `/`; the text is `caption` or `text` (Hugging
Face's `metadata.jsonl` has `file_name` and `text`). Lines for images that the source does not have are refused, images
without a line have no caption.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from transvae_platform.data.listing.schema import Listing
from transvae_platform.errors import SpecError

KEYS = ("caption", "text")


def with_captions(listing: Listing, path: Path) -> Listing:
    """The listing with the captions of a file.

    Raises:
        SpecError: the file is missing or not of this form, or names an image that is not there, or not a single one.
    """
    given = _read(path)
    names = listing.table["name"].to_pylist()
    ends: dict[str, list[str]] = {}
    for name in names:
        ends.setdefault(name.rpartition("/")[2], []).append(name)
    of: dict[str, str] = {}
    for name, caption in given.items():
        found = [name] if name in names else ends.get(name, [])
        if len(found) != 1:
            which = "no image" if not found else f"{len(found)} images, {found[0]} and others,"
            raise SpecError(f"data.captions: {path}: {which} of the source is named {name} - correct the name")
        of[found[0]] = caption
    column = pa.array([of.get(name) for name in names], pa.string())
    place = listing.table.schema.get_field_index("caption")
    return replace(listing, table=listing.table.set_column(place, "caption", column))


def _read(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"data.captions: {path} cannot be read ({error}) - give a JSON Lines file") from None
    given: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            name, caption = values["file_name"], next(values[key] for key in KEYS if key in values)
        except (ValueError, KeyError, TypeError, StopIteration):
            name = caption = None
        if not (isinstance(name, str) and isinstance(caption, str) and caption.strip()):
            raise SpecError(
                f"data.captions: {path}, line {number}: not of the form "
                '{"file_name": "a.jpg", "caption": "what it shows"} - correct it'
            )
        if name in given:
            raise SpecError(f"data.captions: {path}, line {number}: {name} has two captions - remove one")
        given[name] = caption
    return given
