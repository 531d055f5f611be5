"""Ingest: a source becomes a data set of images, once. How the work is done and kept is in `work.py`.

What is to be made is decided from the source's listing before any parallel work: which item is held out, which items
make which shard. An item that cannot be used is quarantined with its reason. So is a training item whose bytes are
those of a held-out one. Before publishing, the records on the disk are compared with the plan: every item that is not
quarantined, once, with all its samples.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transvae_platform.data.listing import Listing
from transvae_platform.data.listing.reading import UNREAD, read_items
from transvae_platform.data.making.images import items_per_shard, make_shard, record_layout, samples_per_item
from transvae_platform.data.making.integrity import COPY, check_records, copies_of_held_out
from transvae_platform.data.making.split import split_listing
from transvae_platform.data.making.work import Listener, Mapper, Work, find_made, publish, run, sweep, work_folder
from transvae_platform.data.pixels.geometry import GEOMETRY_VERSION
from transvae_platform.data.sets.catalogue import named, refuse_other
from transvae_platform.data.sets.identity import FORMAT, content_of, images_fingerprint
from transvae_platform.data.sets.manifest import Manifest, Quarantined
from transvae_platform.data.sets.notes import read_note
from transvae_platform.data.sets.shards import Shard, ShardFile
from transvae_platform.data.sets.stores import printable
from transvae_platform.errors import UserError
from transvae_platform.lineage import library_versions
from transvae_platform.study.data_spec import Data
from transvae_platform.study.trial import stable_hash

FORMAT_VERSION = [4, GEOMETRY_VERSION]
"""Raised when the same source and settings would give other samples (decoding, filters, numbering)."""
SHOWN = 20
"""Left-out images that an error lists."""


def ingest(listing: Listing, data: Data, home: Path, mapper: Mapper, listen: Listener | None = None) -> Manifest:
    """Make the data set of a source, continue making it, or find it made already.

    Args:
        home: data sets live in `home/data/<fingerprint>`.
        mapper: `run_locally`, or `run_on_ray`.
        listen: told how many items of how many are done.

    Raises:
        SpecError: the hold-out names what is not there.
        UserError: too many items cannot be used, or no item of a split.
        UnreachableError: the home cannot be written.
    """
    table = split_listing(listing, data)
    key = ingest_key(table, listing.classes, data)
    asked = [data.path or data.source, data.layout, data.decides_samples()]
    if found := _find(home, key, listing, table, data):
        sweep(home, asked)
        return found
    with work_folder(home, key, asked) as folder:
        if found := _find(home, key, listing, table, data):  # another process has made it meanwhile
            shutil.rmtree(folder)
            return found
        manifest = _make(table, listing, data, folder, mapper, listen)
        publish(folder, home, key, manifest)
    return manifest


def ingest_key(table: pa.Table, classes: Sequence[str], data: Data) -> str:
    """Names an ingest before anything is read: the split listing, with sizes and times of its files, and settings."""
    sha256 = hashlib.sha256()
    for column in table.combine_chunks().columns:
        for chunk in column.chunks:  # several, where texts are longer than an array of Arrow's holds
            # what lies under a null is undefined: it must not reach the hash
            nothing = "" if pa.types.is_string(chunk.type) else 0
            plain = pa.record_batch({"values": chunk.fill_null(nothing), "nulls": chunk.is_null()})
            sha256.update(plain.serialize())
    decisive = {"format": FORMAT_VERSION, "listing": sha256.hexdigest(), "settings": data.decides_samples()}
    return stable_hash(decisive | ({"classes": classes} if classes else {}))[:16]


def refuse_taken_name(listing: Listing, data: Data, home: Path, name: str) -> None:
    """Refuse what is known before the work: that this ingest makes another data set than the one of that name.

    What is decided by the bytes of the images, `give_name` refuses in the end.

    Raises:
        SpecError: the name stands for another data set.
    """
    table = split_listing(listing, data)
    if made := find_made(home, ingest_key(table, listing.classes, data)):
        refuse_other(home, name, made.fingerprint)
    elif taken := named(home, name):
        known = taken.manifest
        if (known.kind, known.settings, known.items) != ("images", data.decides_samples(), table.num_rows):
            refuse_other(home, name, None)


def _find(home: Path, key: str, listing: Listing, table: pa.Table, data: Data) -> Manifest | None:
    """The data set if it was made, with what was passed over today; None also if more of it can be read by now.

    Raises:
        UserError: it was made with a larger share of unusable images than is allowed here.
    """
    found = find_made(home, key)
    if found is None or _is_mended(found, table):
        return None
    _refuse_too_many(found.quarantined, table, data, found.shards)
    return replace(found, source={**found.source, "passed_over": listing.passed_over})


def _is_mended(found: Manifest, table: pa.Table) -> bool:
    """Whether an item that could not be read can be: of a permission, the size and time of a file do not tell."""
    unread = [item.name for item in found.quarantined if item.reason.startswith(UNREAD)]
    rows = table.filter(pc.is_in(table["name"], value_set=pa.array(unread, pa.string())))
    return any(content is not None for _, content, _ in read_items(rows))


def _make(
    table: pa.Table, listing: Listing, data: Data, folder: Path, mapper: Mapper, listen: Listener | None
) -> Manifest:
    work = _plan_shards(table, data, folder)
    results = run(make_shard, work, mapper, listen)
    copies = copies_of_held_out(folder, [result["shard"] for result in results if result["shard"]], table)
    if copies:  # rare: the shards with copies are made once more without them
        for piece in work:
            rows = [row for row in range(piece["start"], piece["stop"]) if row in copies]
            if rows:
                piece["left_out"] = {str(row): f"{COPY} {copies[row]}" for row in rows}
                Path(piece["result"]).unlink()
        results = run(make_shard, work, mapper, None)
    shards = tuple(Shard(**result["shard"]) for result in results if result["shard"])
    quarantined = tuple(Quarantined(**item) for result in results for item in result["quarantined"])
    try:
        _refuse_too_many(quarantined, table, data, shards)
    except UserError:
        _forget_unread(folder)  # the rest stays: a raised share continues
        raise
    check_records(folder, shards, table, quarantined, samples_per_item(data))
    settings = data.decides_samples()
    contents = [(shard.split, content_of(ShardFile(folder / shard.file))) for shard in shards]
    return Manifest(
        fingerprint=images_fingerprint(FORMAT_VERSION, settings, listing.classes, quarantined, contents),
        kind="images",
        fields=record_layout(data),
        items=table.num_rows,
        shards=shards,
        quarantined=quarantined,
        settings=settings,
        source={
            "location": data.path or data.source,
            "layout": listing.layout,
            "classes": list(listing.classes),
            "passed_over": listing.passed_over,
        },
        versions={FORMAT: json.dumps(FORMAT_VERSION), **library_versions()},
    )


def _plan_shards(table: pa.Table, data: Data, folder: Path) -> list[Work]:
    listing = folder / "listing.arrow"
    with pa.OSFile(str(listing), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    step = items_per_shard(data)
    held = int(np.count_nonzero(table.column("split").to_numpy() == "validation"))  # these come first
    bounds = [(start, min(start + step, held), "validation") for start in range(0, held, step)]
    bounds += [(start, min(start + step, table.num_rows), "train") for start in range(held, table.num_rows, step)]
    return [
        {
            "listing": str(listing), "start": start, "stop": stop, "items": stop - start, "split": split,
            "data": data.model_dump(mode="json"), "shard": str(folder / f"{split}-{number:05d}.arrow"),
            "result": str(folder / f"result-{number:05d}.json"), "left_out": {},
        }
        for number, (start, stop, split) in enumerate(bounds)
    ]  # fmt: skip


def _refuse_too_many(quarantined: Sequence[Quarantined], table: pa.Table, data: Data, shards: Sequence[Shard]) -> None:
    items = table.num_rows
    small = [item for item in quarantined if item.is_too_small]
    bad = [item for item in quarantined if not item.is_too_small and not item.reason.startswith(COPY)]
    planned = sorted(table.column("split").unique().to_pylist())
    empty = [split for split in planned if not any(shard.split == split for shard in shards)]
    allowed = max(1 if data.quarantine else 0, data.quarantine * items)
    if not empty and max(len(bad), len(small)) <= allowed:
        return
    if empty:
        ours = [item for item in quarantined if item.split == empty[0]]
        raise UserError(
            f"data: no {empty[0]} image could be used - mend or add images, or hold out others (data.holdout):"
            + _shown(ours)
        )
    if len(bad) > allowed:
        raise UserError(
            f"data.quarantine: {len(bad)} of {items} images cannot be used, more than the allowed share of "
            f"{data.quarantine:g} - mend or remove them, or raise the share:{_shown(bad)}"
        )
    raise UserError(
        f"data.quarantine: {len(small)} of {items} images are too small, more than the allowed share of "
        f"{data.quarantine:g} - lower data.resolution, enlarge them (data.view.enlarge), or raise the share:"
        + _shown(small)
    )


def _forget_unread(folder: Path) -> None:
    """Remove the results of pieces with files that could not be read: those may be mended without a trace."""
    for path in folder.glob("result-*.json"):
        if any(item["reason"].startswith(UNREAD) for item in (read_note(path) or {}).get("quarantined", ())):
            path.unlink()


def _shown(items: Sequence[Quarantined]) -> str:
    """The first items with their reasons, one per line."""
    lines = [f"\n  {printable(item.name)}: {printable(item.reason)}" for item in items[:SHOWN]]
    return "".join(lines) + (f"\n  and {len(items) - SHOWN} more" if len(items) > SHOWN else "")
