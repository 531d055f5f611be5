"""Latents that LightningDiT's code made become a latents data set; the layout is described in `lightningdit.py`.

The files of a folder are read in the order of their names. A record's `item` counts all records, training first; its
`sha256` is of its two latents as they are in the file. Nothing in a folder says which model made the latents of which
images, nor whether they are samples or means: whoever imports says it. A folder of our own export says the latter.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
from safetensors import safe_open

from transvae_platform.data.exchange.export import ABOUT
from transvae_platform.data.exchange.lightningdit import FIELDS, STATISTICS, list_files, read_layout, read_statistics
from transvae_platform.data.latents.channels import channel_statistics, channel_sums, to_float32, to_stored
from transvae_platform.data.making.work import (
    Listener,
    Mapper,
    Work,
    find_made,
    publish,
    run,
    work_folder,
    write_result,
)
from transvae_platform.data.sets.identity import FORMAT, content_of, imported_fingerprint
from transvae_platform.data.sets.manifest import SPLITS, Manifest
from transvae_platform.data.sets.notes import read_note
from transvae_platform.data.sets.shards import SHARD_BYTES, Field, Shard, ShardFile, write_shard
from transvae_platform.errors import SpecError, UserError
from transvae_platform.lineage import library_versions
from transvae_platform.study.trial import stable_hash

CONTENTS = ("sample", "mean")
"""What a layout without a variance can hold; the sums of their channels are made alike."""
FORMAT_VERSION = 2
"""Raised when the same files would give another data set."""


def import_lightningdit(
    folders: Mapping[str, Path],
    home: Path,
    mapper: Mapper,
    *,
    resolution: int,
    model: Mapping[str, str | None],
    content: str | None = None,
    listen: Listener | None = None,
) -> Manifest:
    """Make a latents data set of one folder per split, continue making it, or find it made already.

    The statistics are those of the training folder's `latents_stats.pt`, which its models were trained with; without
    that file they are computed.

    Args:
        folders: split -> folder; `train` is needed.
        resolution: of the images that the latents were made from.
        model: what made them, as `encode.model_identity` says it; `{"name": ..., "weights_sha256": None}` if nobody
            knows the weights.
        content: `sample` or `mean`; by default what our export says of the folder, else `sample`, which LightningDiT's
            own extraction writes.
        listen: told how many records of how many are done.

    Raises:
        SpecError: the splits are not those of a data set.
        UserError: a file cannot be used; its name and what is wrong with it.
        UnreachableError: the home cannot be written.
    """
    if "train" not in folders or not set(folders) <= set(SPLITS):
        raise SpecError(f"lightningdit: folders are given for train and perhaps validation, not {', '.join(folders)}")
    files = [(split, path) for split in SPLITS if split in folders for path in list_files(folders[split])]
    layouts = [read_layout(path) for _, path in files]
    for (_, path), layout in zip(files, layouts, strict=True):
        if layout[1:] != layouts[0][1:]:
            raise UserError(f"{path} holds {layout[1:]}, {files[0][1].name} {layouts[0][1:]} - all must be the same")
    _, shape, dtype = layouts[0]
    content = _content(list(folders.values()), content)
    statistics = read_statistics(folders["train"] / STATISTICS, shape[0])
    settings = {
        "resolution": resolution, "data": None, "content": content, "dtype": dtype, "seed": None, "model": dict(model),
    }  # fmt: skip
    stamps = [(split, *_stamp(path)) for split, path in files]
    decisive = {"format": FORMAT_VERSION, "settings": settings, "statistics": statistics}
    key = stable_hash({**decisive, "files": stamps})[:16]
    fields = tuple(Field(name, shape, dtype) for name in FIELDS)
    asked = {split: str(path.resolve()) for split, path in folders.items()}
    with work_folder(home, key, asked) as folder:
        if found := find_made(home, key):
            shutil.rmtree(folder)
            return found
        work = _plan(files, [layout[0] for layout in layouts], fields, folder)
        results = run(import_records, work, mapper, listen)
        shards = [Shard(**result["shard"]) for result in results]
        contents = [(shard.split, content_of(ShardFile(folder / shard.file))) for shard in shards]
        manifest = Manifest(
            fingerprint=imported_fingerprint(FORMAT_VERSION, settings, statistics, contents),
            kind="latents",
            fields=fields,
            items=sum(piece["items"] for piece in work),
            shards=tuple(shards),
            quarantined=(),
            settings=settings,
            source={"location": str(folders["train"]), "layout": "lightningdit", "classes": []},
            versions={FORMAT: json.dumps(FORMAT_VERSION), **library_versions()},
            statistics=statistics or channel_statistics([result["sums"] for result in results if result["sums"]]),
        )
        publish(folder, home, key, manifest)
    return manifest


def _content(folders: Sequence[Path], said: str | None) -> str:
    """Whether the latents of these folders are samples or means.

    Raises:
        SpecError: it is neither, or an export of ours says otherwise.
    """
    written = {folder: read_note(folder / ABOUT) or {} for folder in folders}
    found = {folder: str(about["settings"].get("content")) for folder, about in written.items() if "settings" in about}
    content = said or next(iter(found.values()), CONTENTS[0])
    if content not in CONTENTS:
        raise SpecError(f"lightningdit: latents are one of {', '.join(CONTENTS)}, not {content!r}")
    for folder, other in found.items():
        if other != content:
            raise SpecError(f"lightningdit: {folder / ABOUT} says that its latents are {other!r}, not {content!r}")
    return content


def import_records(work: Work) -> None:
    """Read a slice of one file, write it as a shard and, after it, the result."""
    path, split, part = Path(work["file"]), work["split"], slice(work["start"], work["start"] + work["items"])
    fields = [Field(name, tuple(shape), dtype) for name, shape, dtype in work["fields"]]
    with safe_open(path, framework="pt") as file:
        tensors = [file.get_slice(FIELDS[field.name])[part] for field in fields]
        labels = file.get_slice("labels")[part].numpy()
    if labels.min() < 0 or labels.max() > np.iinfo(np.int32).max:
        raise UserError(f"{path}: its labels are from {labels.min()} to {labels.max()}, classes count from 0")
    try:
        stored = [to_stored(values, field.dtype) for values, field in zip(tensors, fields, strict=True)]
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    hashes = [hashlib.sha256(record.tobytes() + flip.tobytes()).digest() for record, flip in zip(*stored, strict=True)]
    columns = {
        "item": pa.array(np.arange(len(labels)) + work["item"], pa.int64()),
        "view": pa.array(np.zeros(len(labels)), pa.int32()),
        "sha256": pa.array(hashes, pa.binary(32)),
        "label": pa.array(labels, pa.int32()),
    }
    shard = write_shard(Path(work["shard"]), split, dict(zip(fields, stored, strict=True)), columns)
    sums = channel_sums(to_float32(stored[0], fields[0].dtype), CONTENTS[0]) if split == "train" else None
    write_result(work, {"shard": vars(shard), "sums": sums})


def _stamp(path: Path) -> tuple[str, int, int, int]:
    """What tells a file from every other without reading it: copies that keep a file's times still change its ctime."""
    status = path.stat()
    return str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _plan(files: list[tuple[str, Path]], counts: list[int], fields: tuple[Field, ...], folder: Path) -> list[Work]:
    step = max(1, SHARD_BYTES // sum(field.nbytes for field in fields))
    bounds = [
        (split, path, first, start, min(step, count - start))
        for (split, path), count, first in zip(files, counts, accumulate(counts, initial=0), strict=False)
        for start in range(0, count, step)
    ]
    return [
        {"file": str(path), "split": split, "start": start, "items": items, "item": first + start,
         "fields": [[field.name, field.shape, field.dtype] for field in fields],
         "shard": str(folder / f"{split}-{number:05d}.arrow"), "result": str(folder / f"result-{number:05d}.json")}
        for number, (split, path, first, start, items) in enumerate(bounds)
    ]  # fmt: skip
