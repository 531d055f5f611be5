"""Every image of a source that an ingest would leave out, found without making anything."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from transvae_platform.data.listing import Listing
from transvae_platform.data.listing.reading import read_items
from transvae_platform.data.making.integrity import COPY
from transvae_platform.data.making.split import split_listing
from transvae_platform.data.pixels.decode import UnreadableImageError, decode
from transvae_platform.data.pixels.views import cut_samples
from transvae_platform.study.data_spec import Data


class Problem(NamedTuple):
    """An image that would be left out, and why; a copy of a held-out image is sound in itself."""

    name: str
    reason: str
    is_copy: bool = False


def find_problems(listing: Listing, data: Data, listen: Callable[[int, int], None]) -> Iterator[Problem]:
    """The images of a listing that cannot be used, and training images whose bytes are those of a held-out one.

    Reads all of them, in this process.

    Raises:
        SpecError: the hold-out names what is not there, or leaves nothing to train on.
    """
    table = split_listing(listing, data)  # held-out images come first
    names, splits = table.column("name"), table.column("split")
    held_out: dict[bytes, str] = {}
    for position, content, reason in read_items(table):
        name, copied = names[position].as_py(), None
        if content is not None:
            sha256 = hashlib.sha256(content)
            try:
                cut_samples(decode(content), data, sha256.hexdigest())
            except UnreadableImageError as error:
                reason = str(error)
            else:
                if splits[position].as_py() == "validation":
                    held_out[sha256.digest()] = name
                else:
                    copied = held_out.get(sha256.digest())
        if reason:
            yield Problem(name, reason)
        elif copied:
            yield Problem(name, f"{COPY} {copied}", is_copy=True)
        listen(position + 1, table.num_rows)
