"""What a source holds, listed without reading an image: `list_source` makes the table that every later step follows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from transvae_platform.data.listing.broken import refuse_broken
from transvae_platform.data.listing.coco import list_coco
from transvae_platform.data.listing.detect import choose_layout, is_of_interest
from transvae_platform.data.listing.edits import with_sources
from transvae_platform.data.listing.files import find_files
from transvae_platform.data.listing.folder import list_classes, list_folder, list_imagenet
from transvae_platform.data.listing.huggingface import list_saved
from transvae_platform.data.listing.schema import LISTING_SCHEMA, Listing
from transvae_platform.data.listing.tables import list_tables
from transvae_platform.data.listing.webdataset import list_tars
from transvae_platform.data.sets.stores import printable
from transvae_platform.errors import SpecError
from transvae_platform.study.data_spec import TABLES, EditColumns

__all__ = ["LISTING_SCHEMA", "Listing", "list_source"]

_LISTERS = {
    "folder": list_folder,
    "classes": list_classes,
    "imagenet": list_imagenet,
    "webdataset": list_tars,
    "parquet": list_tables,
    "huggingface": list_saved,
    "coco": list_coco,
}


def list_source(
    location: str, layout: str = "auto", *, skip_broken: bool = False, home: Path | None = None,
    edits: EditColumns | None = None,
) -> Listing:  # fmt: skip
    """The images of a source, sorted by name; the row number is the image's index.

    Args:
        location: a folder, a tar, a Parquet or Arrow file; a local path or a URI (see `stores`).
        layout: one of `detect.LAYOUTS`, or `auto`.
        home: where this platform keeps what it makes; it is no part of a source that contains it.
        skip_broken: list the images of the other files, and name the broken ones in the listing.
        edits: columns of tables whose rows hold two images; the listing has the column SOURCE then.

    Raises:
        SpecError: the location is missing, holds no images, or does not have the layout; it has edits and is no table;
            or tars or tables of it are broken, which are all named.
        UnreachableError: the store of the location does not answer.
    """
    passed_over = Counter[str]()
    files = find_files(location, is_of_interest, passed_over, None if home is None else str(home))
    chosen = choose_layout(location, files, layout)
    if edits is None:
        listing = _LISTERS[chosen](location, files)
    elif chosen in TABLES:
        listing = with_sources((list_tables if chosen == "parquet" else list_saved)(location, files, edits))
    else:
        raise SpecError(
            f"data.edits: {printable(location)} has the layout {chosen}, not one of {', '.join(TABLES)} - of image "
            "files data.captions names the edits"
        )
    if not skip_broken:
        refuse_broken(location, listing.broken)
    return replace(listing, passed_over={**listing.passed_over, **dict(passed_over.most_common())})
