"""Records of evaluations: every number with all that it depends on.

Protocol
1. An evaluation is a folder `<home>/evaluations/<key>`; the key is a hash of everything that decides its numbers: the
   model's weights and configuration, the data set, the split, the protocol, the frozen networks' weights, the seed.
2. It holds `images.parquet`, one row per image in the order of the data set, `pictures.png`, the first originals above
   their outputs, and, written last, `record.json`. Without the record the evaluation does not exist.
3. Nothing in the folder changes afterwards; the same evaluation again finds it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transvae_platform.data.sets.notes import read_note, write_note

RECORD, IMAGES, PICTURES = "record.json", "images.parquet", "pictures.png"
VERSION = 1
"""Raised when the same inputs would give other numbers, or older readers could not read a record."""

UNPUBLISHED = ("_random", "_unverified")
"""What names of metrics end in where the network has other weights than the published ones (`losses/frozen.py`)."""

NEEDED: dict[str, dict[str, Any]] = {
    "model": {"name": str, "title": str, "weights_sha256": str, "parameters": int | float, "compression": int,
              "channels": int},
    "data": {"name": str, "fingerprint": str, "source": str | None, "layout": str | None, "split": str,
             "resolution": int},
    "protocol": {"name": str, "identity": str, "geometry": str, "latent": str, "psnr": str, "extractor": str},
}  # fmt: skip
"""Keys of a record that no reader can do without, and their kinds."""


@dataclass(frozen=True)
class Record:
    """One model on one split of one data set under one protocol."""

    key: str
    model: dict[str, Any]
    """Name, kind, weights' SHA-256, configuration's hash, parameters, compression, channels."""
    data: dict[str, Any]
    """Name, fingerprint, source, layout, split, resolution, geometry, whether small images were enlarged, how many
    items were left out; hashes of how the split was drawn from the source and of the names left out."""
    protocol: dict[str, Any]
    """All its values, and its identity."""
    networks: dict[str, Any]
    """Of LPIPS and FID: what their weights are, with their SHA-256."""
    n: int
    """Images, each counted once."""
    metrics: dict[str, float | None]
    """psnr (dB), ssim, lpips, rfid; None where there is none. Of other networks than the published
    ones: `lpips_random`, `rfid_unverified`."""
    identical: int
    """Images without any error."""
    warnings: tuple[str, ...]
    seed: int
    batch_size: int
    """Of no meaning; the last bits of floats depend on it."""
    lineage: dict[str, Any]
    """Code and library versions, device, solver of the distance."""

    @property
    def column(self) -> tuple[str, str, int, str, str]:
        """What numbers that may stand in one column share: protocol, data, resolution, split, frozen networks."""
        data = self.data
        return (self.protocol["identity"], data["fingerprint"], data["resolution"], data["split"], self.measured_by)

    @property
    def measured_by(self) -> str:
        """LPIPS's and FID's networks, by the first digits of their weights' SHA-256."""
        kinds = ((kind, origin.get("sha256")) for kind, origin in sorted(self.networks.items()))
        return ", ".join(f"{kind} {sha256[:8] if sha256 else 'random'}" for kind, sha256 in kinds)


def write_record(folder: Path, record: Record) -> None:
    """From now on the evaluation exists."""
    write_note(folder / RECORD, {"version": VERSION, **asdict(record)})


def read_record(folder: Path) -> Record | None:
    """The record of an evaluation's folder; None if it is not there, damaged or of another version."""
    values = read_note(folder / RECORD)
    if values is None or values.pop("version", None) != VERSION:
        return None
    try:
        record = Record(**{**values, "warnings": tuple(values["warnings"])})
    except (TypeError, KeyError):
        return None
    return record if _is_whole(record) else None


def _is_whole(record: Record) -> bool:
    """Whether it has what every table needs, each of its kind; a changed byte can leave a file valid JSON."""
    parts = {"model": record.model, "data": record.data, "protocol": record.protocol}
    return (
        all(isinstance(part, dict) for part in (*parts.values(), record.networks, record.metrics))
        and all(key in parts[part] for part, keys in NEEDED.items() for key in keys)
        and all(isinstance(parts[part][key], kind) for part, keys in NEEDED.items() for key, kind in keys.items())
        and all(isinstance(origin, dict) for origin in record.networks.values())
        and all(value is None or isinstance(value, float | int) for value in record.metrics.values())
        and isinstance(record.n, int)
    )


def all_records(home: Path) -> list[Record]:
    """All evaluations of a home, in a fixed order."""
    found = [read_record(path.parent) for path in sorted((home / "evaluations").glob(f"*/{RECORD}"))]
    return sorted(
        (record for record in found if record is not None),
        key=lambda record: (record.data["resolution"], record.model["name"], record.protocol["name"], record.key),
    )


def kind_of(metric: str) -> str:
    """`lpips` of `lpips_random` and `lpips_unverified`, which networks without published weights measured."""
    for suffix in UNPUBLISHED:
        metric = metric.removesuffix(suffix)
    return metric


def shown(value: float | None, digits: int) -> str:
    """A metric as text: an infinite PSNR is said, a missing one is a dash."""
    if value is None or math.isnan(value):
        return "–"
    # a distance of equal images is zero up to rounding, and no minus belongs before it
    return "∞" if math.isinf(value) else f"{round(value, digits) + 0.0:.{digits}f}"
