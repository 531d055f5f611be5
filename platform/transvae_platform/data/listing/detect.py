"""Which layout a location has. The tests, in this order:

1. `dataset_dict.json` or `state.json` on top, and Arrow files: `huggingface`, as `save_to_disk` writes it.
2. `annotations/captions_*.json` or `annotations/instances_*.json`: `coco`.
3. What the files are: tars mean `webdataset`, Parquet or Arrow files mean `parquet`. Two kinds, or one beside images,
   are refused: name the layout.
4. Images below `train/` in folders that are all named like WordNet ids (n01440764): `imagenet`.
5. At least two folders with images directly in them and none elsewhere (`cat/1.jpg`), or the same below folders named
   train, val ...: `classes`. Images beside the folders, no more than there are folders (a cover, one of each class:
   assumption), do not make it `folder`, which would drop all labels: `classes` names them, for people to decide.
6. Any other images: `folder`.
"""

from __future__ import annotations

import difflib

import pyarrow as pa
import pyarrow.compute as pc

from transvae_platform.data.listing.schema import IMAGE_SUFFIXES, SPLIT_WORDS, map_strings, with_suffix
from transvae_platform.data.sets.stores import printable
from transvae_platform.errors import SpecError

LAYOUTS = ("folder", "classes", "imagenet", "webdataset", "parquet", "huggingface", "coco")

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")  # compressed ones are found so that they can be refused by name
TABLE_SUFFIXES = (".parquet", ".arrow")
SAVED_MARKS = ("dataset_dict.json", "state.json")
VALIDATION_LABELS = ("LOC_val_solution.csv", "imagenet_2012_validation_synset_labels.txt")
CLASSES = "classes.json"
"""Beside tars: a list of the names of their classes, as our export writes it."""
KAGGLE_PREFIX = "ILSVRC/Data/CLS-LOC/"
"""Where the ImageNet download of Kaggle has its train and val folders."""

_SUFFIXES = (*IMAGE_SUFFIXES, *TAR_SUFFIXES, *TABLE_SUFFIXES)


def is_of_interest(name: str) -> bool:
    """Whether a file of this name holds images, or says something about them."""
    return (
        name.lower().endswith(_SUFFIXES)
        or name in SAVED_MARKS
        or name in (*VALIDATION_LABELS, CLASSES)
        or (name.endswith(".json") and name.startswith(("captions_", "instances_")))
    )


def choose_layout(location: str, files: pa.Table, layout: str) -> str:
    """The layout by its name, or detected if it is `auto`.

    Raises:
        SpecError: no layout has this name, or the files could be of several.
    """
    if layout == "auto":
        return _detect(location, files)
    if layout not in LAYOUTS:
        close = difflib.get_close_matches(layout, LAYOUTS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: auto, {', '.join(LAYOUTS)}"
        raise SpecError(f"data.layout: no layout is named {layout!r} - {hint}")
    return layout


def _detect(location: str, files: pa.Table) -> str:
    names = files["name"]
    marked = pc.any(pc.is_in(names, value_set=pa.array(SAVED_MARKS))).as_py()
    if marked and len(with_suffix(files, [".arrow"])):
        return "huggingface"
    if pc.any(pc.match_substring_regex(names, r"^annotations/(captions|instances)_[^/]*\.json\z")).as_py():
        return "coco"
    kinds = {"webdataset": TAR_SUFFIXES, "parquet": TABLE_SUFFIXES, "images": IMAGE_SUFFIXES}
    found = {kind: few for kind, suffixes in kinds.items() if len(few := with_suffix(files, suffixes)["name"])}
    if len(found) > 1:
        examples = ", ".join(printable(values[0].as_py()) for values in found.values())
        raise SpecError(
            f"data.path: {printable(location)} holds files of several kinds ({examples}) - set data.layout "
            f"({', '.join(LAYOUTS)}), or give the folder of one kind"
        )
    kind = next(iter(found), "folder")
    return _image_layout(found["images"]) if kind == "images" else kind


def _image_layout(names: pa.ChunkedArray) -> str:
    names = without_prefix(names)
    train = names.filter(pc.starts_with(names, "train/"))
    if len(train) and pc.all(pc.match_substring_regex(train, r"^train/n\d{8}/[^/]+\z")).as_py():
        return "imagenet"
    depth = 2 if below_splits(names) else 1
    if depth == 2:  # strays do not decide
        names = names.filter(pc.is_valid(map_strings(part(names, 0), side_of)))
    inside = names.filter(pc.greater_equal(pc.count_substring(names, "/"), depth))
    folders = pc.unique(part(inside, depth - 1))
    if len(names) - len(inside) > len(folders) or not pc.all(pc.equal(pc.count_substring(inside, "/"), depth)).as_py():
        return "folder"
    return "classes" if len(folders) > 1 else "folder"


def without_prefix(names: pa.ChunkedArray) -> pa.ChunkedArray:
    """Image names without the folders that Kaggle puts above ImageNet's train and val."""
    return pc.replace_substring_regex(names, rf"^{KAGGLE_PREFIX}", "")


def below_splits(names: pa.ChunkedArray) -> bool:
    """Whether the images lie below folders named train, val, test ..., in any case: all, or with two sides and strays.

    Strays are left to the layouts, which name them: no image of `val/` becomes a training image because of one.
    """
    sides = {side_of(top) for top in pc.unique(part(names, 0)).to_pylist()}
    return None not in sides or ("train" in sides and len(sides) > 2)


def side_of(folder: str) -> str | None:
    """The split that a folder is named by, if any."""
    return SPLIT_WORDS.get(folder.lower())


def part(names: pa.ChunkedArray, index: int) -> pa.ChunkedArray:
    """The part of each name between its slashes; null where the name has fewer parts (0: always there)."""
    expression = rf"^(?:[^/]*/){{{index}}}(?P<part>[^/]*)"
    return pc.struct_field(pc.extract_regex(names, expression), "part")
