"""What a data set is named by: its fingerprint, which can be computed again from its manifest and its shards.

Of images: the format, the settings, the class names, what was left out, and of every shard what its records are of. Of
latents that were extracted: format and settings, which name the images and the model's weights. Of latents that were
imported: format, settings, the statistics that came with them, and their records.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transvae_platform.data.sets.manifest import Manifest, Quarantined
from transvae_platform.data.sets.shards import SOURCE, ShardFile
from transvae_platform.study.trial import stable_hash

COLUMNS = ("item", "view", "sha256", "label", "caption")
"""Which source item a record is of, and what is known of it; of edits SOURCE, too."""
FORMAT = "format"
"""Among a manifest's versions: that of the code that decided the records. Older manifests do not say it."""

Contents = Sequence[tuple[str, str]]
"""(split, `content_of`) of each shard, in the manifest's order."""


def content_of(file: ShardFile) -> str:
    """SHA-256 of what a shard's records are of: COLUMNS, not the arrays."""
    digest = hashlib.sha256()
    edits = () if file.column(SOURCE) is None else (SOURCE,)  # came later: what has none keeps its name
    for name in (*COLUMNS, *edits):
        column = file.column(name)
        values = [] if column is None else _bytes_of(column)
        digest.update(json.dumps([name, *map(len, values)]).encode())
        for part in values:
            digest.update(part)
    return digest.hexdigest()


def images_fingerprint(
    format_: Any,
    settings: dict[str, Any],
    classes: Sequence[str],
    quarantined: Sequence[Quarantined],
    contents: Contents,
) -> str:
    """Of a data set of images."""
    left_out = [asdict(item) for item in quarantined]
    return _short(format=format_, settings=settings, classes=classes, quarantined=left_out, contents=contents)


def latents_fingerprint(format_: Any, settings: dict[str, Any]) -> str:
    """Of latents that are made of one of our data sets; what the model is called is no part of it."""
    model = {key: value for key, value in settings["model"].items() if key != "name"}
    return _short(format=format_, settings={**settings, "model": model})


def imported_fingerprint(format_: Any, settings: dict[str, Any], statistics: dict[str, Any], contents: Contents) -> str:
    """Of latents that others made; `statistics` are those that came with them, {} if they had none."""
    return _short(format=format_, settings=settings, statistics=statistics, contents=contents)


def fingerprint_again(manifest: Manifest, contents: Contents) -> str | None:
    """The fingerprint that a data set should have; None if its manifest is older than the record of its format.

    Raises:
        ValueError: that record is damaged.
    """
    if FORMAT not in manifest.versions:
        return None
    format_ = json.loads(manifest.versions[FORMAT])
    if manifest.kind == "images":
        classes = manifest.source.get("classes", [])
        return images_fingerprint(format_, manifest.settings, classes, manifest.quarantined, contents)
    if manifest.settings.get("data") is not None:
        return latents_fingerprint(format_, manifest.settings)
    given = {} if computes_statistics(manifest) else manifest.statistics
    return imported_fingerprint(format_, manifest.settings, given, contents)


def computes_statistics(manifest: Manifest) -> bool:
    """Whether the statistics are those of the shards, not some that came with imported latents."""
    return "training latents" in str(manifest.statistics.get("of", ""))


def _short(**decisive: Any) -> str:
    return stable_hash(decisive)[:16]


def _bytes_of(column: pa.Array) -> list[bytes]:
    """The nulls, and the values in one form whatever version of Arrow wrote them."""
    nulls = np.packbits(column.is_null().to_numpy(zero_copy_only=False)).tobytes()
    if pa.types.is_integer(column.type):
        return [nulls, column.fill_null(0).to_numpy().astype("<i8").tobytes()]
    texts = column.cast(pa.large_binary())
    lengths = pc.fill_null(pc.binary_length(texts), 0).to_numpy().astype("<i8").tobytes()
    return [nulls, lengths, b"".join(text or b"" for text in texts.to_pylist())]
