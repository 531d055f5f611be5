"""Which items of a source are held out for validation, decided from the listing alone: before anything is read."""

from __future__ import annotations

import difflib
import hashlib
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transvae_platform.data.listing import Listing
from transvae_platform.data.sets.stores import printable
from transvae_platform.errors import SpecError
from transvae_platform.study.data_spec import Data

DEFAULT_HOLDOUT = 0.1
"""Share held out where neither the study nor the source says (assumption)."""


def split_listing(listing: Listing, data: Data) -> pa.Table:
    """The listing with `item` (its row number) and `split` filled in; held-out rows first, otherwise in order.

    The split is the source's own, where it has both sides, unless `data.holdout` names items or a share. With a share
    of 0, and of a single image where nobody says, nothing is held out.

    Raises:
        SpecError: a named item does not exist, none is left to train on, or the source holds some items out and does
            not say on which side others are.
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
    if data.holdout is None and sides == {"train", "validation"}:
        held = pc.equal(own, "validation").to_numpy()
    elif isinstance(data.holdout, tuple):
        held = _named(table.column("name").to_pylist(), data.holdout)
    else:
        default = DEFAULT_HOLDOUT if table.num_rows > 1 else 0.0
        held = _share(table.column("name").to_pylist(), default if data.holdout is None else data.holdout, data.seed)
    if held.all():
        raise SpecError(
            f"data.holdout: all {len(held)} images of {data.path or data.source} would be held out, none is left to "
            "train on - lower it (0 holds none out) or add images"
        )
    rows = table.drop_columns("split").append_column("item", pa.array(np.arange(len(held))))
    sides_of = [rows.filter(pa.array(held)), rows.filter(pa.array(~held))]  # a take joins texts, of 2 GiB at most
    splits = pa.array(np.repeat(["validation", "train"], [len(side) for side in sides_of]))
    return pa.concat_tables(sides_of).append_column("split", splits)


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
