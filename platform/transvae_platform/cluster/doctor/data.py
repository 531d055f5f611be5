"""The data sets: is each one there, with every shard in its full size."""

from __future__ import annotations

import os
from pathlib import Path

from transvae_platform.cluster.doctor.finding import Finding
from transvae_platform.data.sets.catalogue import DataSet, find_data_set, list_data_sets
from transvae_platform.errors import UserError
from transvae_platform.study.state import StudyState


def check_data(home: Path, state: StudyState | None) -> list[Finding]:
    """Findings about a study's data sets, or about all of a home."""
    try:
        if state is None:
            return [_check(made) for made in list_data_sets(home)]
        if state.data is None:
            return [Finding("data", "ok", "the study's data set is not made yet")]
        return [_check(find_data_set(home, location)) for location in state.data["locations"]]
    except UserError as error:
        way_out = "submit the study again: the data set is made again from its source"
        return [Finding("data", "wrong", str(error), way_out)]


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
    return Finding("data", "ok", f"{what} in {len(manifest.shards)} shards of their full size")
