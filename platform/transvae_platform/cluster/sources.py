"""The images of a study: what its data sections name, made already or to be made when it is submitted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from transvae_platform.cluster.source import Source
from transvae_platform.data.listing.section import list_section
from transvae_platform.data.making.images import samples_per_item
from transvae_platform.data.making.ingest import ingest, ingest_key
from transvae_platform.data.making.split import split_listing
from transvae_platform.data.making.work import find_made
from transvae_platform.data.sets.catalogue import NoDataSetError, TrainingData, at_home
from transvae_platform.data.sets.fit import images_for
from transvae_platform.errors import SpecError
from transvae_platform.study.data_spec import Data

TRAINED_ON = "data"
"""The section of a study file whose images are trained on."""


def find_source(section: Data, home: Path, key: str = TRAINED_ON) -> Source:
    """List the images, or find the data sets.

    Args:
        key: of the section in the study file. Those of `evaluation.sets` may hold validation images only.

    Raises:
        SpecError: there are none, or nothing is held out, or of what is trained on everything.
    """
    listing, made = None, None
    if section.source in ("dataset", "mixture"):
        made = _find_parts(section, home, key)
        train, held_out = made.samples("train"), made.samples("validation")
    else:
        listing = list_section(section, home)
        table = split_listing(listing, section)
        found = find_made(home, ingest_key(table, listing.classes, section))
        made = TrainingData(((at_home(home, found), 1.0),)) if found else None
        held_out = table.column("split").to_pylist().count("validation")
        train = found.samples("train") if found else (table.num_rows - held_out) * samples_per_item(section)
    _refuse_no_validation(held_out, section, key)
    if not train and key == TRAINED_ON:
        raise SpecError(
            f"{key}: {section.path or section.source} has validation images only, and studies train - name a data set "
            "with training images, or hold out a share (data.holdout)"
        )
    return Source(section, listing, made, train, held_out)


def make_source(source: Source, home: Path, listen: Callable[[str], None]) -> TrainingData:
    """The data set, made on Ray if it is not there; `listen` is told how far that is."""
    if source.made is not None:
        return source.made
    from transvae_platform.data.making.on_ray import run_on_ray  # Ray takes seconds to import; plans need it not

    assert source.listing is not None, "what is not made has a source"
    listen(f"ingesting {source.listing.table.num_rows} images")
    manifest = ingest(
        source.listing,
        source.section,
        home,
        run_on_ray,
        lambda done, items: listen(f"ingesting, {done} of {items} images"),
    )
    return TrainingData(((at_home(home, manifest), 1.0),))


def _find_parts(data: Data, home: Path, key: str) -> TrainingData:
    """The data sets that a section names.

    Raises:
        SpecError: one cannot serve, or two are the same; names its key.
    """
    parts = []
    for part, share in (data.parts or {str(data.path): 1.0}).items():
        try:
            parts.append((images_for(data, home, part), share))
        except NoDataSetError as error:
            raise SpecError(f"{key}.{f'parts.{part}' if data.parts else 'path'}: {error}") from None
    return TrainingData(tuple(parts))


def _refuse_no_validation(held_out: int, data: Data, key: str) -> None:
    if not held_out:
        way_out = (
            "train on one that was ingested with a hold-out, or add one as a part (source: mixture)"
            if data.source in ("dataset", "mixture")
            else "hold some out (data.holdout), or add images"
        )
        raise SpecError(f"{key}: {data.path or data.source} has no validation images, and studies validate - {way_out}")
