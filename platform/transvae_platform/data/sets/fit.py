"""Whether a data set can serve a study: checked at plan, before anything runs."""

from __future__ import annotations

from pathlib import Path

from transvae_platform.data.sets.catalogue import DataSet, find_data_set
from transvae_platform.data.sets.remote import refuse_small_cache
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
        room = data.cache_bytes // len(data.parts or [reference])
        refuse_small_cache(reference, manifest, data.sampling.shuffle_window, room)
    return made
