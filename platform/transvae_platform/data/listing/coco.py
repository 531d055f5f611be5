"""COCO: `train2017/*.jpg`, `val2017/*.jpg` (or below `images/`), and of each set two files that may be missing:
`annotations/captions_train2017.json`, and `annotations/instances_train2017.json` for labels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from transvae_platform.data.listing.annotations import first_captions, largest_objects
from transvae_platform.data.listing.broken import list_each
from transvae_platform.data.listing.schema import IMAGE_SUFFIXES, Listing, make_listing, map_strings, with_suffix
from transvae_platform.data.sets.stores import printable
from transvae_platform.errors import SpecError

_FOLDER = r"^(?:images/)?(?P<set>(?:train|val)(?P<year>\d*))/(?P<file>[^/]+)\z"
T = TypeVar("T")


def list_coco(location: str, files: pa.Table) -> Listing:
    """The images of the train and val folders, no test or unlabeled; see `annotations` for captions and labels.

    Broken is a captions or instances file that is damaged, names a file twice or holds a wrong entry.

    Raises:
        SpecError: there are sets of several years, or with different categories.
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
    captions, labels = pa.nulls(len(images), pa.string()), pa.nulls(len(images), pa.int32())
    broken, classes = tuple[str, ...](), set[tuple[str, ...]]()
    for name in pc.unique(sets).to_pylist():
        captioned, wrong = _annotations(files, f"captions_{name}", first_captions)
        labelled, also_wrong = _annotations(files, f"instances_{name}", largest_objects)
        broken += (*wrong, *also_wrong)
        for of_images, texts in captioned:
            captions = pc.if_else(pc.equal(sets, name), _values_of(base, of_images, texts), captions)
        for of_images, numbers, names in labelled:
            labels = pc.if_else(pc.equal(sets, name), _values_of(base, of_images, numbers), labels)
            classes.add(names)
    if len(classes) > 1:
        raise SpecError(
            f"data.path: the instances files of {printable(location)} have different categories - give those of one "
            "kind, or remove one for a set without labels"
        )
    splits = map_strings(sets, lambda name: "train" if name.startswith("train") else "validation")
    rows = images.append_column("split", splits).append_column("caption", captions).append_column("label", labels)
    return make_listing(location, "coco", rows, next(iter(classes), ()), broken)


def _annotations(files: pa.Table, name: str, read: Callable[[str], T]) -> tuple[list[T], tuple[str, ...]]:
    """(what a file of annotations says, if it is there, what is wrong with it)."""
    found = files.filter(pc.equal(files["name"], f"annotations/{name}.json"))
    return list_each(read, found.select(["path"]).to_pylist())


def _values_of(files: pa.ChunkedArray, named: pa.Array, values: pa.Array) -> pa.Array:
    """The value of each file, null where it is not named."""
    return values.take(pc.index_in(files, value_set=named).combine_chunks())
