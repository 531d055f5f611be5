"""What the terminal shows of data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from transvae_platform.cli.render import console, format_bytes, table
from transvae_platform.cli.text import harmless, one_line
from transvae_platform.data.sets.catalogue import DataSet

if TYPE_CHECKING:  # they import torch, and most verbs need none
    from transvae_platform.data.listing import Listing
    from transvae_platform.data.making.problems import Problem

SHOWN = 20


def print_data_set(data_set: DataSet) -> None:
    """What a data set holds, where it came from and what was left out."""
    manifest, out = data_set.manifest, console()
    rows = {
        "data set": ", ".join((*data_set.names, manifest.fingerprint)),
        "location": data_set.location,
        "kind": f"{manifest.kind} of {manifest.resolution} x {manifest.resolution}",
        "arrays": ", ".join(f"{field.name} {field.shape} {field.dtype}" for field in manifest.fields),
        "samples": f"{manifest.samples('train'):,} train, {manifest.samples('validation'):,} validation",
        "size": f"{format_bytes(manifest.bytes)} in {len(manifest.shards)} shards",
        "source": ", ".join(f"{value}" for key, value in manifest.source.items() if key in ("location", "layout")),
        "classes": f"{len(manifest.source.get('classes', ())):,}",
        "settings": ", ".join(f"{key} {value}" for key, value in manifest.settings.items()),
        "left out": f"{len(manifest.quarantined)} of {manifest.items:,} items",
        "passed by": _passed_over(manifest.source.get("passed_over", {})),
    }
    for key, value in rows.items():
        out.print(harmless(f"{key + ':':10s} {value}"), markup=False, highlight=False, soft_wrap=True)
    for item in manifest.quarantined[:SHOWN]:
        out.print(one_line(f"  {item.name}: {item.reason}"), markup=False, highlight=False, soft_wrap=True)
    if len(manifest.quarantined) > SHOWN:
        out.print(f"  and {len(manifest.quarantined) - SHOWN} more, in manifest.json")


def print_data_sets(found: Sequence[DataSet]) -> None:
    """One line per data set."""
    rows = table(
        ("name", "left"), ("fingerprint", "left"), ("kind", "left"), ("resolution", "right"), ("train", "right"),
        ("validation", "right"), ("size", "right"), ("source", "left"),
    )  # fmt: skip
    for data_set in found:
        manifest = data_set.manifest
        rows.add_row(
            ", ".join(data_set.names), manifest.fingerprint, manifest.kind, str(manifest.resolution),
            f"{manifest.samples('train'):,}", f"{manifest.samples('validation'):,}", format_bytes(manifest.bytes),
            harmless(str(manifest.source.get("location", ""))),
        )  # fmt: skip
    console().print(rows if found else "no data sets yet: `transvae data ingest LOCATION --name NAME` makes one")


def print_problems(listing: Listing, problems: Sequence[Problem]) -> None:
    """Files that an ingest would refuse, images that it would leave out, and how many files it would not look at."""
    copies, items = sum(problem.is_copy for problem in problems), listing.table.num_rows
    lines = [*listing.broken, *(f"{problem.name}: {problem.reason}" for problem in problems)]
    if listing.broken:
        lines.append(f"{len(listing.broken):,} files cannot be read: what they hold was not checked")
    lines.append(f"{len(problems) - copies:,} of {items:,} images cannot be used")
    if copies:
        lines.append(f"{copies:,} of {items:,} images are left out of the training as copies of held-out ones")
    for line in (*lines, f"passed by: {_passed_over(listing.passed_over)}"):
        console().print(one_line(line), markup=False, highlight=False, soft_wrap=True)


def _passed_over(counts: Mapping[str, int]) -> str:
    """How many files were not looked at, with the most frequent suffixes."""
    shown = [f"{count:,} {one_line(suffix) or 'without suffix'}" for suffix, count in counts.items()]
    more = f", and {len(shown) - SHOWN} more suffixes" if len(shown) > SHOWN else ""
    kinds = f" ({', '.join(shown[:SHOWN])}{more})" if shown else ""
    return f"{sum(counts.values()):,} files that are no images by their suffix{kinds}"
