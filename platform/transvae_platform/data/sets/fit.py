"""Whether a data set can serve a study: checked at plan, before anything runs."""

from __future__ import annotations

from pathlib import Path

from transvae_platform.data.sets.catalogue import DataSet, find_data_set
from transvae_platform.data.sets.manifest import Manifest
from transvae_platform.errors import SpecError
from transvae_platform.study.data_spec import Data


def images_for(data: Data, home: Path, reference: str) -> DataSet:
    """The data set behind a reference of a study's data section.

    Raises:
        SpecError: it does not exist, holds no images, or images of another size; or a cache could not hold what an
            order over a distant one needs.
    """
    made = find_data_set(home, reference)
    manifest = made.manifest
    if manifest.kind != "images":
        raise SpecError(f"data.path: {reference} holds {manifest.kind}, autoencoders train on images")
    if manifest.resolution != data.resolution:
        raise SpecError(
            f"data.resolution: the images of {reference} are {manifest.resolution} x {manifest.resolution}, not "
            f"{data.resolution} x {data.resolution} - correct it, or ingest at another resolution"
        )
    if "://" in made.location:
        _refuse_small_cache(data, reference, manifest)
    return made


def _refuse_small_cache(data: Data, reference: str, manifest: Manifest) -> None:
    """Shards that go and come back in every batch would cost more than the training."""
    window, room = data.sampling.shuffle_window, data.cache_bytes // len(data.parts or [reference])
    if window is None and manifest.bytes > room:
        raise SpecError(
            f"data.sampling.shuffle_window: {reference} has {manifest.bytes} bytes, more than its {room} of "
            "data.cache_bytes - raise that, or set a window of shards to shuffle within"
        )
    needed = 2 * (window or 0) * max(shard.bytes for shard in manifest.shards)  # one in use, one on its way
    if needed > room:
        raise SpecError(
            f"data.cache_bytes: {room} bytes for {reference} do not hold two windows of {window} shards, {needed} "
            "bytes - raise it, or lower data.sampling.shuffle_window"
        )
