"""Ingest: photographs to shards, once per data set, as a Ray Data job (this file and `cluster/` import Ray).

Each shard is a pure function of its photographs and the settings, so any worker can make it and a repeated ingest
makes the same bytes. A file that cannot be read is skipped here, once, with its name and reason in the manifest.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transvae_platform.data.shards import Manifest, Shard, Skipped, is_whole, read_manifest, write_manifest, write_shard
from transvae_platform.data.sources import Photograph
from transvae_platform.data.split import data_fingerprint, samples_per_photograph, split_photographs
from transvae_platform.data.views import UnreadableImageError, cut_samples, decode_photograph
from transvae_platform.errors import UserError
from transvae_platform.study.spec import Data

SAMPLES_PER_SHARD = 4096  # assumption: 0.8 GB at 256 x 256, a few tasks per core at ImageNet size, one file in the demo

Work = dict[str, Any]
Listener = Callable[[int, int], None]
Mapper = Callable[[Callable[[Work], Work], Sequence[Work]], Iterable[Work]]
"""Applies a function to every item, in any order: `run_locally`, or `run_on_ray`."""


def ingest(
    photographs: Sequence[Photograph], data: Data, home: Path, mapper: Mapper, listen: Listener | None = None
) -> Manifest:
    """Make the data set of a study's data section, or find it made already, with every shard as it was written.

    Args:
        home: data sets live in `home/data/<fingerprint>`.
        mapper: how the shards are computed; see `Mapper`.
        listen: told how many shards of how many are done.

    Raises:
        UserError: no photograph of a split could be read.
    """
    fingerprint = data_fingerprint(photographs, data)
    folder = home / "data" / fingerprint
    manifest = read_manifest(folder)
    if manifest is not None and all(is_whole(folder, shard) for shard in manifest.shards):
        return manifest
    folder.mkdir(parents=True, exist_ok=True)
    work = _plan_shards(photographs, data, folder)
    results = []
    for result in mapper(_make_shard, work):
        results.append(result)
        if listen:
            listen(len(results), len(work))
    results.sort(key=lambda result: result["number"])
    shards = tuple(Shard(**result["shard"]) for result in results if result["shard"])
    skipped = tuple(Skipped(**skip) for result in results for skip in result["skipped"])
    manifest = Manifest(fingerprint, data.resolution, len(photographs), shards, skipped)
    for split in ("train", "validation"):
        if manifest.samples(split) == 0:
            reasons = "; ".join(f"{skip.name}: {skip.reason}" for skip in skipped[:3])
            shutil.rmtree(folder)
            raise UserError(f"data: no {split} photograph could be used ({reasons or 'the split is empty'})")
    write_manifest(folder, manifest)
    return manifest


def run_locally(function: Callable[[Work], Work], work: Sequence[Work]) -> Iterable[Work]:
    """The mapper without Ray: one shard after the other in this process."""
    return map(function, work)


def run_on_ray(function: Callable[[Work], Work], work: Sequence[Work]) -> Iterable[Work]:
    """The mapper of studies: Ray Data spreads the shards over the cluster's CPUs and streams the results back."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # the command line has one progress display of its own
    # rows travel as JSON text: nested lists of mixed types have no Arrow type
    rows = [{"work": json.dumps(item)} for item in work]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        lambda row: {"result": json.dumps(function(json.loads(row["work"])))}
    )
    return (json.loads(row["result"]) for row in dataset.iter_rows())


def _plan_shards(photographs: Sequence[Photograph], data: Data, folder: Path) -> list[Work]:
    train, validation = split_photographs(photographs, data)
    size = max(1, SAMPLES_PER_SHARD // samples_per_photograph(data))
    groups = [
        (split, members[start : start + size])
        for split, members in (("train", train), ("validation", validation))
        for start in range(0, len(members), size)
    ]
    return [
        {
            "number": number,
            "split": split,
            "data": data.model_dump(mode="json"),
            "path": str(folder / f"{split}-{number:05d}.arrow"),
            "photographs": [[photo.index, photo.name, photo.path, photo.sha256] for photo in members],
        }
        for number, (split, members) in enumerate(groups)
    ]


def _make_shard(work: Work) -> Work:
    data = Data.model_validate(work["data"])
    images, indices, skipped = [], [], []
    for index, name, path, sha256 in work["photographs"]:
        try:
            samples = cut_samples(decode_photograph(Path(path).read_bytes()), data, sha256)
        except (UnreadableImageError, OSError) as error:
            skipped.append({"name": name, "reason": str(error)})
            continue
        images.append(samples)
        indices.append(np.full(len(samples), index, np.int32))
    shard = None
    if images:
        written = write_shard(Path(work["path"]), work["split"], np.concatenate(images), np.concatenate(indices))
        shard = vars(written)
    return {"number": work["number"], "shard": shard, "skipped": skipped}
