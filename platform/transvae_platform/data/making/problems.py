"""Every image of a source that an ingest would leave out, found without making anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa

from transvae_platform.data.listing.reading import read_items
from transvae_platform.data.pixels.decode import UnreadableImageError, decode
from transvae_platform.data.pixels.views import cut_samples
from transvae_platform.study.data_spec import Data


def find_problems(table: pa.Table, data: Data, listen: Callable[[int, int], None]) -> Iterator[tuple[str, str]]:
    """(name, reason) of each item of a listing that cannot be used; reads all of them, in this process."""
    names = table.column("name")
    for position, content, reason in read_items(table):
        try:
            if content is not None:
                cut_samples(decode(content), data, "0" * 64)
        except UnreadableImageError as error:
            reason = str(error)
        if reason:
            yield names[position].as_py(), reason
        listen(position + 1, table.num_rows)
