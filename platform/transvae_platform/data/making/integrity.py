"""What is on the disk against what was planned: every record once, and no held-out image among the training ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from transvae_platform.data.sets.manifest import Quarantined
from transvae_platform.data.sets.shards import Shard, ShardFile
from transvae_platform.errors import UserError

COPY = "identical to the held-out"
"""Why a training image is left out whose bytes are those of a held-out one; its name follows."""


def copies_of_held_out(folder: Path, shards: Sequence[dict[str, Any]], table: pa.Table) -> dict[int, str]:
    """Rows of the listing in the training split whose bytes are those of a held-out item, with that item's name."""
    sides: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {"train": ([], []), "validation": ([], [])}
    for shard in shards:
        file = ShardFile(folder / shard["file"])
        hashes, items = sides[shard["split"]]
        hashes.append(_fixed(file, "sha256"))
        items.append(_numbers(file, "item"))
    if not all(hashes for hashes, _ in sides.values()):
        return {}
    held, held_items = (np.concatenate(part) for part in sides["validation"])
    train, train_items = (np.concatenate(part) for part in sides["train"])
    both = np.isin(train, held)
    if not both.any():
        return {}
    row_of = np.empty(table.num_rows, np.int64)
    row_of[table.column("item").to_numpy()] = np.arange(table.num_rows)
    original = dict(zip(held.tolist(), held_items.tolist(), strict=True))
    names = table.column("name")
    return {
        int(row_of[item]): names[int(row_of[original[sha256]])].as_py()
        for sha256, item in zip(train[both].tolist(), train_items[both].tolist(), strict=True)
    }


def check_records(
    folder: Path, shards: Sequence[Shard], table: pa.Table, quarantined: Sequence[Quarantined], per_item: int
) -> None:
    """Compare the records of all shards with the listing: each usable item, all its samples, each once, in order.

    Raises:
        UserError: records are missing or repeated (a fault of this code or of the file system, never of the source).
    """
    names = table.column("name").to_pylist()
    left_out = {item.name for item in quarantined}
    expected = table.column("item").to_numpy()[[name not in left_out for name in names]]
    found = [ShardFile(folder / shard.file) for shard in shards]
    items = np.concatenate([_numbers(file, "item") for file in found] or [np.array([], np.int64)])
    views = np.concatenate([_numbers(file, "view") for file in found] or [np.array([], np.int64)])
    complete = np.array_equal(items, np.repeat(expected, per_item))
    if not complete or not np.array_equal(views, np.tile(np.arange(per_item), len(expected))):
        raise UserError(
            f"{folder}: {len(items)} records were written, {len(expected) * per_item} were planned, or their order "
            "differs - delete the folder and ingest again"
        )


def _numbers(file: ShardFile, name: str) -> np.ndarray:
    column = file.column(name)
    assert column is not None, f"shards have a column {name}"
    return column.to_numpy()


def _fixed(file: ShardFile, name: str) -> np.ndarray:
    """A fixed-size binary column as an array of opaque records, so that NumPy compares them whole."""
    column = file.column(name)
    assert column is not None, f"shards have a column {name}"
    return np.frombuffer(column.buffers()[1], np.dtype((np.void, column.type.byte_width)))[: len(file)]
