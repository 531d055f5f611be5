"""Image files in folders: without classes, one folder per class, or as ImageNet lies.

All three take the source's own split from the topmost folders named train, val or test, if every image lies below one,
or if there are two sides: then an image elsewhere has no split, and is named before anything is made.
ImageNet: `train/<wnid>/*.JPEG` and `val/<wnid>/*.JPEG`, also below `ILSVRC/Data/CLS-LOC/`. Where `val/` is flat, the
labels come from one of two files on top: Kaggle's `LOC_val_solution.csv`, or TensorFlow's list
`imagenet_2012_validation_synset_labels.txt` (one wnid per line, in the order of the sorted file names); without them
the images of `val/` have no label. The integer ids of the devkit's ground truth are not read: they are in an order that
only its `meta.mat` tells.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from transvae_platform.data.listing.detect import VALIDATION_LABELS, below_splits, part, side_of, without_prefix
from transvae_platform.data.listing.schema import (
    IMAGE_SUFFIXES,
    Listing,
    encode_labels,
    make_listing,
    map_strings,
    with_suffix,
)
from transvae_platform.data.sets.stores import open_file, printable, reaching
from transvae_platform.errors import SpecError


def list_folder(location: str, files: pa.Table) -> Listing:
    """Images at any depth, without labels."""
    images = with_suffix(files, IMAGE_SUFFIXES)
    return make_listing(location, "folder", _with_splits(images, images["name"]))


def list_classes(location: str, files: pa.Table) -> Listing:
    """Images whose topmost folder, or the one below train, val ..., names their class.

    Raises:
        SpecError: an image lies in no class folder.
    """
    images = with_suffix(files, IMAGE_SUFFIXES)
    classes = part(images["name"], 1 if below_splits(images["name"]) else 0)
    outside = pc.equal(pc.count_substring(images["name"], "/"), 0)
    if below_splits(images["name"]):
        is_stray = pc.is_null(map_strings(part(images["name"], 0), side_of))
        outside = pc.or_(is_stray, pc.less_equal(pc.count_substring(images["name"], "/"), 1))
    stray = pc.index(outside, True).as_py()
    if stray >= 0:
        name = printable(images["name"][stray].as_py())
        raise SpecError(
            f"data.path: {printable(location)}: {name} lies in no class folder - move it, or set data.layout: folder"
        )
    labels, names = encode_labels(location, classes)
    rows = _with_splits(images, images["name"]).append_column("label", labels)
    return make_listing(location, "classes", rows, names)


def list_imagenet(location: str, files: pa.Table) -> Listing:
    """ImageNet; see the top of this file for what is supported.

    Raises:
        SpecError: images lie elsewhere than in train and val, or the validation labels do not fit the images.
    """
    images = with_suffix(files, IMAGE_SUFFIXES)
    names = without_prefix(images["name"])
    rows = _with_splits(images, names)
    if "split" not in rows.column_names or rows["split"].null_count:
        raise SpecError(f"data.path: {printable(location)} has images outside of train/ and val/ - it is no ImageNet")
    in_folder = pc.greater_equal(pc.count_substring(names, "/"), 2)
    classes = pc.if_else(in_folder, part(names, 1), pa.scalar(None, pa.string()))
    flat = pc.and_(pc.invert(in_folder), pc.equal(rows["split"], "validation"))
    if pc.any(flat).as_py():
        classes = pc.coalesce(classes, _validation_classes(location, files, names, flat))
    labels, wnids = encode_labels(location, pa.chunked_array([classes]) if isinstance(classes, pa.Array) else classes)
    return make_listing(location, "imagenet", rows.append_column("label", labels), wnids)


def _with_splits(images: pa.Table, names: pa.ChunkedArray) -> pa.Table:
    if not len(images) or not below_splits(names):
        return images
    return images.append_column("split", map_strings(part(names, 0), side_of))


def _validation_classes(location: str, files: pa.Table, names: pa.ChunkedArray, flat: pa.ChunkedArray) -> pa.Array:
    """The wnid of every image of a flat val folder, null for the other images or without a file of labels."""
    found = {name: path for name, path in _top_files(files).items() if name in VALIDATION_LABELS}
    if not found:
        return pa.nulls(len(names), pa.string())
    name, path = sorted(found.items())[0]
    with reaching(path), open_file(path) as file:
        lines = file.read().decode("utf-8", "replace").split("\n")
    lines = [line.strip() for line in lines if line.strip()]
    stems = pc.replace_substring_regex(names, r"(?s)^.*/|\.[^./]*\z", "")
    held = stems.filter(flat)
    if name.endswith(".csv"):  # ImageId,PredictionString with "wnid x y x y ..."
        pairs = [line.partition(",")[::2] for line in lines[1:]]
        keys, wnids = [key for key, _ in pairs], [boxes.split(" ")[0] for _, boxes in pairs]
    else:
        keys, wnids = sorted(held.to_pylist()), lines
    if len(keys) != len(wnids) or not pc.all(pc.is_in(held, value_set=pa.array(keys, pa.string()))).as_py():
        raise SpecError(
            f"data.path: {name} has {len(wnids)} labels that do not fit the {len(held)} images of val/ in "
            f"{printable(location)} - complete the folder or remove the file"
        )
    at = pc.if_else(flat, pc.index_in(stems, value_set=pa.array(keys, pa.string())), pa.scalar(None, pa.int32()))
    return pa.array(wnids, pa.string()).take(at.combine_chunks() if isinstance(at, pa.ChunkedArray) else at)


def _top_files(files: pa.Table) -> dict[str, str]:
    top = files.filter(pc.is_in(files["name"], value_set=pa.array(VALIDATION_LABELS)))
    return dict(zip(top["name"].to_pylist(), top["path"].to_pylist(), strict=True))
