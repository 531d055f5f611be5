"""The data sets: is each one there and whole, as far as it is small enough to be read."""

from __future__ import annotations

import os
from pathlib import Path

from transvae_platform.cluster.doctor.finding import Finding
from transvae_platform.data.making.verify import find_damage
from transvae_platform.data.making.work import BAD
from transvae_platform.data.sets.catalogue import DataSet, find_data_set, list_data_sets
from transvae_platform.errors import UserError
from transvae_platform.study.state import StudyState

READ_BYTES = 10 * 10**9
"""Of a data set that is read; of a larger one sizes are compared (10 s of one core at 1 GB/s, assumption)."""
AGAIN = (
    "submit the study again: what it made itself is made again once a training has stopped at it; what was ingested: "
    "delete it and ingest it again, or bring it back with `transvae data copy`"
)


def check_data(home: Path, state: StudyState | None) -> list[Finding]:
    """Findings about a study's data sets, or about all of a home."""
    aside = [
        Finding(
            "data", "warn", f"damaged and set aside: {path}", f"it is made again; look at the disk, then delete {path}"
        )
        for path in sorted((home / "data" / BAD).glob("*"))
    ]
    try:
        if state is None:
            return [_check(made) for made in list_data_sets(home)] + aside
        if state.data is None:
            return [Finding("data", "ok", "the study's data set is not made yet"), *aside]
        return [_check(find_data_set(home, _here(home, location))) for location in state.data["locations"]] + aside
    except UserError as error:
        way_out = "submit the study again: what it made itself is made again from its source"
        return [Finding("data", "wrong", str(error), way_out), *aside]


def _here(home: Path, location: str) -> str:
    """Where a data set of the journal lies now: in this home, if that was moved."""
    own = home / "data" / Path(location).name
    return str(own) if own.is_dir() else location


def _check(made: DataSet) -> Finding:
    manifest, where = made.manifest, made.location
    what = f"{where}: {manifest.samples('train')} + {manifest.samples('validation')} samples"
    if "://" in where:
        return Finding("data", "ok", f"{what}, manifest read; `transvae data verify` reads the shards")
    sizes = {entry.name: entry.stat().st_size for entry in os.scandir(where)}
    bad = [shard.file for shard in manifest.shards if sizes.get(shard.file) != shard.bytes]
    if bad:
        way_out = "submit the study, or ingest, again: it is made again from its source"
        return Finding("data", "wrong", f"{where}: missing or of a wrong size: {', '.join(bad[:5])}", way_out)
    count = f"{len(manifest.shards)} shards"
    if manifest.bytes > READ_BYTES:
        return Finding("data", "ok", f"{what} in {count} of their full size; `transvae data verify` reads them")
    if damaged := find_damage(where, manifest):
        named = "; ".join(f"{file}: {problem}" for file, problem in damaged[:5])
        return Finding("data", "wrong", f"{where} is damaged: {named}", AGAIN)
    return Finding("data", "ok", f"{what} in {count}, read: as the manifest says")
