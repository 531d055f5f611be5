"""What COCO's JSON files say of images: captions, and the objects in them.

Both are read whole, but only a few numbers and words of an entry are kept while the rest is parsed: the polygons of
`instances_train2017.json` would take several GB as Python objects.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from transvae_platform.data.listing.broken import UNREADABLE
from transvae_platform.data.sets.stores import as_utf8, open_file, printable, reaching
from transvae_platform.errors import SpecError

SHOWN = 80
"""Characters of a wrong entry that an error shows."""


class Objects(NamedTuple):
    """What the largest object of each image of an instances file is: file names, indices into the class names."""

    files: pa.Array
    labels: pa.Array
    classes: tuple[str, ...]


def first_captions(path: str) -> tuple[pa.Array, pa.Array]:
    """(file names, captions) of a captions file: of each image the caption with the lowest annotation id.

    Raises:
        SpecError: it is damaged, or names a file twice.
    """
    return _of(path, "captions", _caption, _first_captions)


def largest_objects(path: str) -> Objects:
    """The classes of an instances file, by category id, and of each image that of its annotation of the largest area.

    Of equal areas the lowest annotation id decides. Crowds (`iscrowd`) do not count: theirs is the area of many.

    Raises:
        SpecError: it is damaged, names a file twice, or an entry of it is wrong.
    """
    return _of(path, "instances", _object, _largest_objects)


def _of(path: str, kind: str, keep: Callable[[dict[str, Any]], Any], make: Callable[..., Any]) -> Any:
    """What `make` reads out of (the file names by image id, all values) of a file."""

    def compact(value: dict[str, Any]) -> Any:
        if (kept := keep(value)) is not None:
            return kept
        if "file_name" in value:
            return value["id"], re.split(r"[/\\]", value["file_name"])[-1]
        return value

    try:
        values = json.loads(_text_of(path), object_hook=compact)
        names = dict(values["images"])
        made = make(names, values)
    except UNREADABLE as error:  # also numbers where words should be, and words that are no UTF-8
        reason = str(error) if isinstance(error, _EntryError) else repr(error)
        raise SpecError(
            f"data.path: {printable(path)} is no COCO {kind} file ({printable(reason)}) - mend it or download it again"
        ) from None
    if len(set(names.values())) < len(values["images"]):
        raise SpecError(f"data.path: {printable(path)} names an image twice - mend it or download it again")
    return made


def _text_of(path: str) -> str:
    with reaching(path), open_file(path) as file:
        content: bytes = file.read()
        return content.decode("utf-8-sig")


class _EntryError(ValueError):
    """What is wrong with which entry."""

    def __init__(self, where: str, entry: object, wanted: str) -> None:
        super().__init__(f"{where} is {repr(entry)[:SHOWN]}, not {wanted}")


def _caption(value: dict[str, Any]) -> tuple[Any, ...] | None:
    return (value["id"], value["image_id"], value["caption"]) if "caption" in value else None


def _first_captions(names: Mapping[Any, str], values: dict[str, Any]) -> tuple[pa.Array, pa.Array]:
    ordered = sorted(values["annotations"], reverse=True)
    first = {image: caption for _, image, caption in ordered}  # the lowest annotation id comes last and stays
    return _columns({names[image]: caption for image, caption in first.items() if image in names}, pa.string())


def _object(value: dict[str, Any]) -> tuple[Any, ...] | None:
    keys = ("id", "image_id", "category_id", "area", "iscrowd")
    return tuple(map(value.get, keys)) if "category_id" in value else None


def _largest_objects(names: Mapping[Any, str], values: dict[str, Any]) -> Objects:
    categories = _categories(values["categories"])
    number = {category: index for index, category in enumerate(categories)}
    largest: dict[Any, tuple[float, Any, int]] = {}
    for index, entry in enumerate(values["annotations"]):
        match entry:
            case (int() | str() as key, int() | str() as image, int() as category, int() | float() as area, crowd) if (
                category in number and 0 <= area < math.inf and crowd in (0, 1, None)  # pycocotools: none is 0
            ):
                candidate = (-area, key, number[category])
                if not crowd and (image not in largest or candidate < largest[image]):
                    largest[image] = candidate
            case _:
                wanted = "id, image_id, category_id of one of the categories, area, iscrowd (0 or 1)"
                raise _EntryError(f"annotations[{index}]", entry, wanted)
    files, labels = _columns({names[image]: best[2] for image, best in largest.items() if image in names}, pa.int32())
    return Objects(files, labels, tuple(map(as_utf8, categories.values())))


def _categories(entries: Sequence[Any]) -> dict[int, str]:
    """The names of the categories by id, in the order of the ids."""
    found: dict[int, str] = {}
    for index, entry in enumerate(entries):
        match entry:
            case {"id": int() as key, "name": str() as name} if (
                key not in found and as_utf8(name) not in found.values()
            ):
                found[key] = as_utf8(name)
            case _:
                raise _EntryError(f"categories[{index}]", entry, "an id and a name of its own")
    return dict(sorted(found.items()))


def _columns(values: Mapping[str, Any], kind: pa.DataType) -> tuple[pa.Array, pa.Array]:
    return pa.array(list(values), pa.string()), pa.array(list(values.values()), kind)
