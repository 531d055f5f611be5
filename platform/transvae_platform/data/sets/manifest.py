"""The manifest: what a data set holds, what was left out and why, and how it came about.

Protocol
1. A data set is a folder with shards and, written last and atomically, `manifest.json`. Without the manifest the data
   set does not exist.
2. The folder is named by the fingerprint: a hash of everything that decides which samples there are and in which
   order - the bytes, labels and captions of the source's items, the settings and the version of the geometry, and the
   quarantine list. Where the source lies and when it was read are not part of it.
3. The records of a split are numbered from 0 in the order of the manifest's shards; a sample's id is that number.
4. Nothing in the folder changes after the manifest is written; `verify` compares every shard with its SHA-256.
5. A manifest may come from anywhere: its names become paths only after `parse_manifest` found them plain.
"""

from __future__ import annotations

import errno
import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from transvae_platform.data.sets.shards import STORED_AS, Field, Shard
from transvae_platform.errors import UserError

SPLITS = ("train", "validation")
MANIFEST_VERSION = 2
"""Raised when older readers could not use what this code writes."""

FINGERPRINT = re.compile(r"[0-9a-f]{1,64}")
SHARD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.arrow")
"""What becomes part of a path: neither can leave its folder, be hidden there, or take the manifest's place."""


TOO_SMALL = "is smaller than the sample size"
"""Part of the reason for which a sound image is left out that would have to be enlarged."""


TEST = "of the test split"
"""Stands among the suffixes of what a source's listing passed over, for images."""


@dataclass(frozen=True)
class Quarantined:
    """An item of the source that gave no samples, and why."""

    name: str
    split: str
    reason: str

    @property
    def is_too_small(self) -> bool:
        """Whether it is readable, but has a side below the resolution."""
        return TOO_SMALL in self.reason


@dataclass(frozen=True)
class Manifest:
    """What a data set holds; see the protocol above."""

    fingerprint: str
    kind: str
    """`images` or `latents`."""
    fields: tuple[Field, ...]
    items: int
    """Items of the source, the quarantined ones included."""
    shards: tuple[Shard, ...]
    quarantined: tuple[Quarantined, ...]
    settings: dict[str, Any]
    """How the samples were made: resolution, view, seed, hold-out; for latents also the model."""
    source: dict[str, Any]
    """Where the items came from: location, layout, class names."""
    versions: dict[str, str]
    """Library versions at the time of the ingest."""
    statistics: dict[str, Any] = field(default_factory=dict)
    """Of latents: mean and standard deviation of each channel over the training split."""
    version: int = MANIFEST_VERSION

    def samples(self, split: str) -> int:
        """Number of samples of a split."""
        return sum(shard.records for shard in self.shards if shard.split == split)

    @property
    def resolution(self) -> int:
        """Height and width of the images; of latents, of the images that they were made from."""
        return int(self.settings["resolution"])

    @property
    def bytes(self) -> int:
        """Size of all shards."""
        return sum(shard.bytes for shard in self.shards)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest atomically: from now on the data set exists."""
    temporary = folder / f".manifest.{os.getpid()}"
    with temporary.open("w") as file:
        json.dump(asdict(manifest), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / "manifest.json")


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a finished data set, else None.

    Raises:
        UserError: the file cannot be read, is damaged, or from a version that this code does not read.
    """
    path = folder / "manifest.json"
    try:
        text = path.read_text(errors="replace")
    except ValueError:  # a NUL in the path
        return None
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return None
        raise UserError(f"{path} cannot be read ({error.strerror}) - mend the disk or the permission") from None
    return parse_manifest(text, str(path))


def parse_manifest(text: str, where: str) -> Manifest:
    """A manifest from its JSON text.

    Raises:
        UserError: it is damaged, or from a version that this code does not read.
    """
    try:
        values = json.loads(text)
        if values.get("version") != MANIFEST_VERSION:
            raise UserError(
                f"{where} is of format version {values.get('version', 1)}, this code reads {MANIFEST_VERSION} - "
                "ingest the source again"
            )
        manifest = _typed(values)
        _check(manifest)
        return manifest
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        reason = f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
    except (ValueError, TypeError, AttributeError) as error:
        reason = str(error)
    raise UserError(f"{where} is damaged ({reason}) - delete its folder and ingest the source again")


def _typed(values: Any) -> Manifest:
    """Raises ValidationError where a value is of another type than an ingest writes."""
    adapter: TypeAdapter[Manifest] = TypeAdapter(Manifest)
    # through JSON, because only there strict takes lists for tuples
    return adapter.validate_json(json.dumps(values), strict=True)


def _check(manifest: Manifest) -> None:
    """Raises ValueError for values that no data set of ours has, and that readers could be led astray by."""
    names = [shard.file for shard in manifest.shards]
    shapes = [field.shape for field in manifest.fields]
    counts = [number for shard in manifest.shards for number in (shard.records, shard.bytes)]
    refused = {
        "fingerprint": not FINGERPRINT.fullmatch(manifest.fingerprint),
        "shards[].file": not all(map(SHARD_NAME.fullmatch, names)) or len(set(names)) < max(1, len(names)),
        "shards[].split": any(shard.split not in SPLITS for shard in manifest.shards),
        "settings.resolution": type(manifest.settings.get("resolution")) is not int,
        "source.classes": not _are_names(manifest.source.get("classes", [])),
        "fields[].dtype": any(field.dtype not in STORED_AS for field in manifest.fields),
        "fields[].shape": not all(type(side) is int and side > 0 for shape in shapes for side in shape),
        "shards[].records or .bytes": not all(type(number) is int and number > 0 for number in counts),
    }
    if wrong := [key for key, is_wrong in refused.items() if is_wrong]:
        raise ValueError(f"{', '.join(wrong)}: not what an ingest writes")


def _are_names(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)
