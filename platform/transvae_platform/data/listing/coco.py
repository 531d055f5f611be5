"""COCO: `train2017/*.jpg`, `val2017/*.jpg` (or below `images/`), captions in `annotations/captions_train2017.json`."""

from __future__ import annotations

import json
import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from transvae_platform.data.listing.broken import UNREADABLE, list_each
from transvae_platform.data.listing.schema import IMAGE_SUFFIXES, Listing, make_listing, map_strings, with_suffix
from transvae_platform.data.sets.stores import open_file, printable, reaching
from transvae_platform.errors import SpecError

_NONE = (pa.array([], pa.string()),) * 2
_FOLDER = r"^(?:images/)?(?P<set>(?:train|val)(?P<year>\d*))/(?P<file>[^/]+)\z"


def list_coco(location: str, files: pa.Table) -> Listing:
    """The images of the train and val folders with their first caption by annotation id; no test or unlabeled.

    Broken is a captions file that is damaged or names a file twice.

    Raises:
        SpecError: there are sets of several years.
    """
    images = with_suffix(files, IMAGE_SUFFIXES)
    parts = pc.extract_regex(images["name"], _FOLDER)
    images, parts = images.filter(pc.is_valid(parts)), parts.filter(pc.is_valid(parts))
    years = sorted(pc.unique(pc.struct_field(parts, "year")).to_pylist())
    if len(years) > 1:
        raise SpecError(
            f"data.path: {printable(location)} holds sets of several years ({', '.join(years)}), which share images - "
            "give a folder with those of one year"
        )
    sets, base = pc.struct_field(parts, "set"), pc.struct_field(parts, "file")
    captions, broken = pa.nulls(len(images), pa.string()), tuple[str, ...]()
    for name in pc.unique(sets).to_pylist():
        annotations = files.filter(pc.equal(files["name"], f"annotations/captions_{name}.json"))
        read, wrong = list_each(_first_captions, annotations.select(["path"]).to_pylist())
        broken += wrong
        for captioned, texts in read:
            found = texts.take(pc.index_in(base, value_set=captioned).combine_chunks())
            captions = pc.if_else(pc.equal(sets, name), found, captions)
    splits = map_strings(sets, lambda name: "train" if name.startswith("train") else "validation")
    rows = images.append_column("split", splits).append_column("caption", captions)
    return make_listing(location, "coco", rows, broken=broken)


def _first_captions(path: str) -> tuple[pa.Array, pa.Array]:
    """(file names, captions) of a captions file."""
    with reaching(path), open_file(path) as file:
        content = file.read()
    try:
        values = json.loads(content, object_hook=_compact)
        names = dict(values["images"])
        ordered = sorted(values["annotations"], reverse=True)
        first = {image: caption for _, image, caption in ordered}  # the lowest annotation id comes last and stays
        known = [(names[image], caption) for image, caption in first.items() if image in names]
        files, texts = (pa.array(list(column), pa.string()) for column in zip(*known, strict=True)) if known else _NONE
    except UNREADABLE as error:  # also numbers where words should be, and words that are no UTF-8
        raise SpecError(
            f"data.path: {printable(path)} is no COCO captions file ({printable(repr(error))}) - download it again"
        ) from None
    if len(set(names.values())) < len(values["images"]):
        raise SpecError(f"data.path: {printable(path)} names an image twice - download it again")
    return files, texts


def _compact(value: dict[str, Any]) -> Any:
    """An image or annotation as a tuple: half a million dictionaries would take most of the listing's memory."""
    if "caption" in value:
        return value["id"], value["image_id"], value["caption"]
    if "file_name" in value:
        return value["id"], re.split(r"[/\\]", value["file_name"])[-1]
    return value
