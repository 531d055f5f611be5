"""What a worker does for an ingest: the items of one piece of the listing become one shard. No Ray, no state."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from transvae_platform.data.listing.reading import read_items
from transvae_platform.data.making.work import Work, write_result
from transvae_platform.data.pixels.decode import UnreadableImageError, decode
from transvae_platform.data.pixels.memory import enough_memory
from transvae_platform.data.pixels.views import cut_samples
from transvae_platform.data.sets.shards import SHARD_BYTES, SOURCE, Field, image_field, write_shard
from transvae_platform.data.stream.buffers import Buffers
from transvae_platform.study.data_spec import CropsView, Data

SHARD_RECORDS = 4096
"""Most samples of a shard (assumption)."""

_memory = Buffers()
"""Of one shard, for the next one of this process."""


def record_layout(data: Data) -> tuple[Field, ...]:
    """The arrays of a record of an image data set."""
    return (image_field(data.resolution),)


def samples_per_item(data: Data) -> int:
    """How many samples a readable item gives."""
    return data.view.per_photograph if isinstance(data.view, CropsView) else 1


def items_per_shard(data: Data) -> int:
    """A shard is closed at SHARD_RECORDS samples or SHARD_BYTES, whichever comes first, but holds one item."""
    record = sum(field.nbytes for field in record_layout(data))
    return max(1, min(SHARD_RECORDS, SHARD_BYTES // record) // samples_per_item(data))


@enough_memory("make a shard")
def make_shard(work: Work) -> None:
    """Read, decode and cut the items of one piece of work, write its shard and, after it, its result.

    The result names the shard (None if no item could be used) and the quarantined items with their reasons.

    Raises:
        UnreachableError: a store, a disk or the memory of this machine fails, which is no fault of an item.
    """
    data, split = Data.model_validate(work["data"]), work["split"]
    with pa.memory_map(work["listing"]) as file:
        table = pa.ipc.open_file(file).read_all().slice(work["start"], work["stop"] - work["start"])
    per_item = samples_per_item(data)
    (field,) = record_layout(data)
    # room for a full shard, also where this one is smaller: the same memory serves all
    images = _memory.empty((items_per_shard(data) * per_item, *field.shape), np.dtype(np.uint8))
    used: list[int] = []
    hashes, quarantined = [], []
    names = table.column("name")
    for position, content, reason in read_items(table):
        reason = work["left_out"].get(str(work["start"] + position), reason)
        if content is not None and not reason:
            sha256 = hashlib.sha256(content)
            try:
                samples = cut_samples(decode(content), data, sha256.hexdigest())
            except UnreadableImageError as error:
                reason = str(error)
            else:
                images[len(used) * per_item : (len(used) + 1) * per_item] = samples
                used.append(position)
                hashes.append(sha256.digest())
                continue
        quarantined.append({"name": names[position].as_py(), "split": split, "reason": reason})
    kept = table.take(pa.array(used, pa.int64()))
    path = Path(work["shard"])
    shard = None
    if used:
        columns = _columns(kept, hashes, per_item)
        shard = vars(write_shard(path, split, {field: images[: len(used) * per_item]}, columns))
    write_result(work, {"shard": shard, "quarantined": quarantined})


def _columns(kept: pa.Table, hashes: list[bytes], per_item: int) -> dict[str, pa.Array]:
    """The plain columns of a shard, each item's values repeated for its samples; see `shards.py`."""
    rows = np.repeat(np.arange(kept.num_rows), per_item)
    columns = {
        "item": kept.column("item").combine_chunks().take(pa.array(rows)),
        "view": pa.array(np.tile(np.arange(per_item, dtype=np.int32), kept.num_rows)),
        "sha256": pa.array(hashes, pa.binary(32)).take(pa.array(rows)),
    }
    for name in ("label", "caption", SOURCE):
        column = kept.column(name).combine_chunks() if name in kept.column_names else None
        if column is not None and column.null_count < len(column):
            columns[name] = column.take(pa.array(rows))
    return columns
