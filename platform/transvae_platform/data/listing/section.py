"""The listing that a data section asks for: a study's, or the one that `transvae data ingest` makes of its options."""

from __future__ import annotations

from pathlib import Path

from transvae_platform.data.listing import Listing, list_source
from transvae_platform.data.listing.bundled import list_bundled
from transvae_platform.data.listing.captions import with_captions
from transvae_platform.study.data_spec import Data


def list_section(section: Data, home: Path, *, skip_broken: bool = False) -> Listing:
    """The images of `source: bundled` or `folder`, with the captions and edits that the section names.

    Args:
        home: see `list_source`, as `skip_broken`.

    Raises:
        SpecError: see `list_source` and `with_captions`.
        UnreachableError: the store of the location does not answer.
    """
    if section.path is None:
        listing = list_bundled()
    else:
        listing = list_source(section.path, section.layout, skip_broken=skip_broken, home=home, edits=section.edits)
    return listing if section.captions is None else with_captions(listing, Path(section.captions))
