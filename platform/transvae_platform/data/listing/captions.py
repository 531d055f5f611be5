"""Captions of images that have none beside them: a JSON Lines file, one object per image.

    {"file_name": "rocket.jpg", "caption": "a rocket on its pad"}
    {"file_name": "rocket-at-night.jpg", "caption": "make it night", "source": "rocket.jpg"}

`file_name` is the image's name in its source, or the end of it after a `/`; the text is `caption` or `text` (Hugging
Face's `metadata.jsonl` has `file_name` and `text`). With `source`, the name of another image, the image is an edit of
that one and its caption the instruction. Lines for images that the source does not have are refused, as are lines for
images with a caption in the source; images without a line keep what they have.
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
MOST = 20
"""Lines that are named at once (assumption)."""


class _Line(NamedTuple):
    caption: str
    source: str | None


def with_captions(listing: Listing, path: Path) -> Listing:
    """The listing with the captions of a file; with a column `source`, the row of what an edit is of, if it has edits.

    Raises:
        SpecError: the file is missing or not of this form; or, all at once, lines that name an image that is not there,
            or not a single one, or one that has a caption already.
    """
    captions: list[str | None] = listing.table["caption"].to_pylist()
    sources: list[int | None] = [None] * len(captions)
    names, found, problems = _Names(listing.table["name"].to_pylist()), dict[int, str](), list[str]()
    for name, line in _read(path).items():
        rows = [names.row_of(each) for each in (name, line.source) if each is not None]
        problems += [row for row in rows if isinstance(row, str)]
        row = rows[0]
        if isinstance(row, str):
            continue
        if captions[row] is not None:
            other = found.get(row)
            problems.append(
                f"{name} has " + (f"two captions, as {other}, too" if other else "one in the source itself")
            )
        captions[row], found[row] = line.caption, name
        sources[row] = next((each for each in rows[1:] if isinstance(each, int)), None)
    if problems:
        more = f"\n  and {len(problems) - MOST} more" if len(problems) > MOST else ""
        broken = f"\n  files of the source that are broken may hold them: {', '.join(listing.broken)}"
        raise SpecError(
            f"data.captions: {path}: correct or remove these lines\n  "
            + "\n  ".join(problems[:MOST]) + more + (broken if listing.broken else "")
        )  # fmt: skip
    place = listing.table.schema.get_field_index("caption")
    table = listing.table.set_column(place, "caption", pa.array(captions, pa.string()))
    if any(source is not None for source in sources):
        table = table.append_column(SOURCE, pa.array(sources, pa.int64()))
    return replace(listing, table=table)


class _Names:
    """The rows of images, by whole names and by their ends."""

    def __init__(self, names: list[str]) -> None:
        self._rows = {name: row for row, name in enumerate(names)}
        self._by_last: dict[str, list[str]] = {}
        for name in names:
            self._by_last.setdefault(name.rpartition("/")[2], []).append(name)

    def row_of(self, name: str) -> int | str:
        """The row, or why there is none."""
        ends = [each for each in self._by_last.get(name.rpartition("/")[2], []) if each.endswith(f"/{name}")]
        found = [name] if name in self._rows else ends
        if len(found) == 1:
            return self._rows[found[0]]
        which = "no image" if not found else f"{len(found)} images, {found[0]} and others,"
        return f"{which} of the source is named {name}"


def _read(path: Path) -> dict[str, _Line]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # a text may hold other ends of lines
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
