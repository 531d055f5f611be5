"""Rows with two images, one an edit of the other: two images of the listing, told apart by a part of their names.

`a.parquet/edit/000007` is an edit of `a.parquet/source/000007`. Sorted by name, all edits of a file stand before all of
their sources, so that each column of the file is read once, in order.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from transvae_platform.data.listing.schema import Listing
from transvae_platform.data.sets.shards import SOURCE

EDIT_PART, SOURCE_PART = "edit/", "source/"


def with_sources(listing: Listing) -> Listing:
    """The listing of such rows with the column SOURCE: the row of the image that an edit is of; null for sources."""
    names = listing.table["name"]
    sources = pc.replace_substring_regex(names, rf"/{EDIT_PART}(\d+)\z", rf"/{SOURCE_PART}\1")
    rows = pc.index_in(sources, value_set=names).cast(pa.int64())
    is_edit = pc.not_equal(sources, names)
    column = pc.if_else(is_edit, rows, pa.scalar(None, pa.int64()))
    return replace(listing, table=listing.table.append_column(SOURCE, column))
