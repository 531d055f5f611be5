"""Which items of a source are held out for validation, decided from the listing alone: before anything is read."""

from __future__ import annotations

import difflib
import hashlib
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transvae_platform.data.listing import Listing
from transvae_platform.data.sets.shards import SOURCE
from transvae_platform.data.sets.stores import printable
from transvae_platform.errors import SpecError
from transvae_platform.study.data_spec import CropsView, Data

DEFAULT_HOLDOUT = 0.1
"""Share held out where neither the study nor the source says (assumption)."""


def split_listing(listing: Listing, data: Data) -> pa.Table:
    """The listing with `item` (its row number) and `split` filled in; held-out rows first, otherwise in order.

    The split is the source's own, where it has both sides or says of all images that they are for validation, unless
    `data.holdout` names items or a share. With a share of 0, and of a single image where nobody says, nothing is held
    out; with a share of 1 everything is: a data set for evaluations. An edit stays with its source.

    Raises:
        SpecError: a named item does not exist, none is left to train on, the source holds some items out and does
            not say on which side others are, an edit and its source are on two sides, or are to be cut into crops.
    """
    table = listing.table
    own = table.column("split")
    sides = set(own.unique().to_pylist())
    if data.holdout is None and sides >= {"validation", None}:
        stray = printable(table["name"][pc.index(own.is_null(), True).as_py()].as_py())
        raise SpecError(
            f"data.path: {printable(str(data.path))} has images for validation, but {stray} lies on no side - move it "
            "below train/ (name its file so), or hold out a share of all images instead (data.holdout)"
        )
    names = table.column("name").to_pylist()
    first = _first_images(table, data)
    if data.holdout is None and sides in ({"train", "validation"}, {"validation"}):
        held = pc.equal(own, "validation").to_numpy()
    elif isinstance(data.holdout, tuple):
        held = _named(names, data.holdout)
    else:
        default = DEFAULT_HOLDOUT if table.num_rows > 1 else 0.0
        share = default if data.holdout is None else data.holdout
        held = _share([names[row] for row in first.tolist()], share, data.seed)
        held = np.isin(first, first[held])  # the last image with all of its edits
    _refuse(
        table, held != held[first],
        "data.path: {} and the image that it is an edit of are not both held out - move or name the two together",
    )  # fmt: skip
    is_meant = data.holdout == 1 or (data.holdout is None and sides == {"validation"})
    if held.all() and not is_meant:
        raise SpecError(
            f"data.holdout: all {len(held)} images of {data.path or data.source} would be held out, none is left to "
            "train on - lower it (0 holds none out, 1 all of them on purpose) or add images"
        )
    rows = table.drop_columns("split").append_column("item", pa.array(np.arange(len(held))))
    sides_of = [rows.filter(pa.array(held)), rows.filter(pa.array(~held))]  # a take joins texts, of 2 GiB at most
    splits = pa.array(np.repeat(["validation", "train"], [len(side) for side in sides_of]))
    return pa.concat_tables(sides_of).append_column("split", splits)


def _first_images(table: pa.Table, data: Data) -> np.ndarray:
    """The row of the image that all edits go back to; of an image that is no edit its own."""
    own = np.arange(table.num_rows)
    if SOURCE not in table.column_names:
        return own
    if isinstance(data.view, CropsView):
        raise SpecError(
            "data.view: crops of an image and of its edit would not show the same part, and there are edits "
            "(data.captions, data.edits) - give a view of whole images, e.g. {kind: centre}"
        )
    source = np.where(table[SOURCE].is_null(), own, table[SOURCE].fill_null(0))
    first = source
    for _ in range(len(own).bit_length()):  # from edits of edits on
        first = first[first]
    _refuse(table, source[first] != first, "data.captions: {} is an edit of its own edits - correct its source")
    return first


def _refuse(table: pa.Table, wrong: np.ndarray, message: str) -> None:
    if wrong.any():
        raise SpecError(message.format(printable(table["name"][int(wrong.argmax())].as_py())))


def _named(names: list[str], wanted: tuple[str, ...]) -> np.ndarray:
    stems = [PurePosixPath(name).stem for name in names]
    known = set(stems)
    for name in wanted:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(sorted(known)[:20])}"
            raise SpecError(f"data.holdout: no image is named {name!r} - {hint}")
    return np.isin(stems, wanted)


def _share(names: list[str], share: float, seed: int) -> np.ndarray:
    # ranked by a seeded hash of the name: stable when other images are added or removed
    prefix = f"{seed}:".encode()
    digests = b"".join(hashlib.blake2b(prefix + name.encode(), digest_size=8).digest() for name in names)
    held = np.zeros(len(names), np.bool_)
    if not share:
        return held
    held[np.argsort(np.frombuffer(digests, ">u8"), kind="stable")[: max(1, round(share * len(names)))]] = True
    return held
