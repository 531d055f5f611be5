"""What the terminal shows of data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transvae_platform.cli.render import format_bytes
from transvae_platform.cli.tables import console, table
from transvae_platform.cli.text import one_line
from transvae_platform.data.sets.catalogue import DataSet
from transvae_platform.data.sets.manifest import TEST, TOO_SMALL, Manifest, Quarantined

if TYPE_CHECKING:  # they import torch, and most verbs need none
    from transvae_platform.data.listing import Listing
    from transvae_platform.data.making.problems import Problem

SHOWN = 20


def print_data_set(data_set: DataSet) -> None:
    """What a data set holds, where it came from and what was left out."""
    manifest = data_set.manifest
    source, left_out = manifest.source, manifest.quarantined
    _print_rows(
        {
            "data set": ", ".join((*data_set.names, manifest.fingerprint)),
            "location": data_set.location,
            "kind": f"{manifest.kind} of {manifest.resolution} x {manifest.resolution}",
            "arrays": ", ".join(
                f"{field.name} {' x '.join(map(str, field.shape))} {field.dtype}" for field in manifest.fields
            ),
            "samples": _samples(manifest),
            "size": f"{format_bytes(manifest.bytes)} in {counted(len(manifest.shards), 'shard')}",
            "source": f"{source.get('location', '')} ({source.get('layout', '')})",
            "classes": f"{len(source.get('classes', ())):,}" if source.get("classes") else "none",
            **_settings(manifest.settings),
            "passed by": _passed_over(source.get("passed_over", {})),
            "left out": f"{len(left_out):,} of {counted(manifest.items, 'item')}" + _of_them_small(left_out),
        }
    )
    out = console()
    for item in left_out[:SHOWN]:
        out.print(one_line(f"  {item.name}: {item.reason}"), markup=False, highlight=False, soft_wrap=True)
    if len(left_out) > SHOWN:
        out.print(f"  and {len(left_out) - SHOWN:,} more, in manifest.json", highlight=False)


def print_export(data_set: DataSet, layout: str, folder: Path, files: Sequence[Path], split: str | None) -> None:
    """What was written where; `split` is the only one that was, None for all."""
    manifest = data_set.manifest
    _print_rows(
        {
            "data set": ", ".join((*data_set.names, manifest.fingerprint)),
            "layout": layout,
            "samples": f"{manifest.samples(split):,} {split}" if split else _samples(manifest),
            "files": f"{len(files):,} in {folder}",
            "size": format_bytes(sum(file.stat().st_size for file in files)),
        }
    )


def counted(number: int, what: str) -> str:
    """`1 shard`, `2,000 shards`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _print_rows(rows: Mapping[str, str]) -> None:
    for key, value in rows.items():
        line = one_line(f"{key + ':':10s} {value}")
        console().print(line, markup=False, highlight=False, soft_wrap=True)


def _samples(manifest: Manifest) -> str:
    return f"{manifest.samples('train'):,} train, {manifest.samples('validation'):,} validation"


def _of_them_small(left_out: Sequence[Quarantined]) -> str:
    small = sum(item.is_too_small for item in left_out)
    return f", of them {small:,} too small" if small else ""


def _settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """How the samples were made, in words; for latents, of which images and by which model."""
    seed = "" if settings.get("seed") is None else f", seed {settings['seed']}"
    if model := settings.get("model"):
        weights = model.get("weights_sha256")
        return {
            "latents": f"{settings['content']}, {settings['dtype']}{seed}",
            "model": f"{model['name']}, " + (f"weights {weights[:16]}" if weights else "weights unknown"),
            "images": f"data set {settings['data']}" if settings.get("data") else "not a data set of ours",
        }
    view, holdout = settings.get("view", {}), settings.get("holdout")
    if view.get("kind") == "crops":
        scales = ", ".join(f"{scale:g}" for scale in view["scales"])
        cut = f"{counted(view['per_photograph'], 'crop')} per photograph at scales {scales}"
    else:
        enlarged = ", small images enlarged" if view.get("enlarge") else ""
        cut = f"the central square, geometry {view.get('geometry', 'unknown')}{enlarged}"
    if isinstance(holdout, (list, tuple)):
        held = f"by name: {', '.join(holdout)}"
    elif holdout is None:
        held = "the source's own split, or a tenth"
    else:
        held = f"a share of {holdout:g}" if holdout else "nothing"
    return {"view": f"{cut}{seed}", "held out": held}


def print_data_sets(found: Sequence[DataSet], unusable: Sequence[str]) -> None:
    """One line per data set, and one for what is wrong with each manifest that cannot be used."""
    rows = table(
        ("name", "left"), ("fingerprint", "left"), ("kind", "left"), ("resolution", "right"), ("train", "right"),
        ("validation", "right"), ("size", "right"), ("source", "left"),
    )  # fmt: skip
    for data_set in found:
        manifest = data_set.manifest
        rows.add_row(
            ", ".join(data_set.names), manifest.fingerprint, manifest.kind, str(manifest.resolution),
            f"{manifest.samples('train'):,}", f"{manifest.samples('validation'):,}", format_bytes(manifest.bytes),
            one_line(str(manifest.source.get("location", ""))),
        )  # fmt: skip
    console().print(rows if found else "no data sets yet: `transvae data ingest LOCATION --name NAME` makes one")
    for wrong in unusable:
        console().print(one_line(f"not listed: {wrong}"), markup=False, highlight=False, soft_wrap=True)


def print_problems(listing: Listing, problems: Sequence[Problem]) -> None:
    """Files that an ingest would refuse, images that it would leave out, and how many files it would not look at."""
    copies, items = sum(problem.is_copy for problem in problems), listing.table.num_rows
    lines = [*listing.broken, *(f"{problem.name}: {problem.reason}" for problem in problems)]
    if listing.broken:
        lines.append(f"{counted(len(listing.broken), 'file')} cannot be read: what they hold was not checked")
    small = sum(TOO_SMALL in problem.reason for problem in problems)
    lines.append(f"{len(problems) - copies - small:,} of {items:,} images cannot be used")
    if small:
        lines.append(f"{small:,} of {items:,} images are too small")
    if copies:
        lines.append(f"{copies:,} of {items:,} images are left out of the training as copies of held-out ones")
    for line in (*lines, f"passed by: {_passed_over(listing.passed_over)}"):
        console().print(one_line(line), markup=False, highlight=False, soft_wrap=True)


def _passed_over(counts: Mapping[str, int]) -> str:
    """How many files were not looked at, with the most frequent suffixes, and how many images of a test split."""
    files = {suffix: count for suffix, count in counts.items() if suffix != TEST}
    tested = f"{counted(counts[TEST], 'image')} {TEST}" if TEST in counts else ""
    if not files:
        return tested or "no files"
    shown = [f"{count:,} {one_line(suffix) or 'without suffix'}" for suffix, count in files.items()]
    more = f", and {len(shown) - SHOWN} more suffixes" if len(shown) > SHOWN else ""
    by_suffix = f"{counted(sum(files.values()), 'file')} by suffix: {', '.join(shown[:SHOWN])}{more}"
    return f"{tested}, {by_suffix}" if tested else by_suffix
