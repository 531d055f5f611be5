"""Records of what latents are like: one JSON file per measurement in `<home>/evaluations/latents`, written once.

A record's key is a hash of the latents' fingerprint and of every setting; the same measurement again finds it. Beside
that of a density lies `<key>.npy`, the first of its maps, for pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from transvae_platform.data.sets.manifest import Manifest
from transvae_platform.data.sets.notes import read_note, write_note
from transvae_platform.lineage import code, library_versions
from transvae_platform.study.trial import stable_hash

VERSION = 1
Kind = Literal["density", "probe", "manifold"]
MEASURES = ("density_cv", "normalised_entropy", "gini")
"""Of a density."""
USED: dict[Kind, tuple[str, ...]] = {"density": ("scikit-learn", "scipy"), "probe": (), "manifold": ()}
"""Libraries that measure, beside those of every record."""


@dataclass(frozen=True)
class LatentRecord:
    """One measurement of one data set of latents."""

    key: str
    kind: Kind
    latents: dict[str, Any]
    """Name, fingerprint, the model that made them, content, resolution, the images' fingerprint."""
    result: dict[str, Any]
    """The fields of `Density`, `Probed` or `Manifold`."""
    lineage: dict[str, Any]


def key_of(kind: Kind, manifest: Manifest, settings: dict[str, Any]) -> str:
    """Of a measurement with these settings."""
    return stable_hash([VERSION, kind, manifest.fingerprint, settings])[:16]


def keep(home: Path, key: str, kind: Kind, name: str, manifest: Manifest, result: Any) -> LatentRecord:
    """Write a measurement's record; `result` is a dataclass."""
    latents = {
        "name": name, "fingerprint": manifest.fingerprint, "model": manifest.settings["model"],
        "content": manifest.settings["content"], "resolution": manifest.resolution,
        "images": manifest.settings.get("data"),
    }  # fmt: skip
    record = LatentRecord(key, kind, latents, asdict(result), {"code": code().name, **library_versions(*USED[kind])})
    path = _path(home, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_note(path, {"version": VERSION, **asdict(record)})
    return record


def keep_map(home: Path, key: str, points: NDArray[np.float64]) -> None:
    """Write the map (N, 2) that a density was first measured on, for pages to draw; nothing depends on it."""
    path = _path(home, key).with_suffix(".npy")
    with suppress(OSError):  # a disk without room keeps numbers, not pictures
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, points.astype(np.float32))


def kept_map(home: Path, key: str) -> NDArray[np.float32] | None:
    """The map of a density; None where none was kept, or it cannot be read."""
    try:
        found: NDArray[np.float32] = np.load(_path(home, key).with_suffix(".npy"), allow_pickle=False)
    except (OSError, ValueError):
        return None
    return found if found.ndim == 2 and found.shape[1] == 2 and len(found) else None


def kept(home: Path, key: str) -> LatentRecord | None:
    """The record under a key; None if there is none, or none that can be read."""
    return _read(_path(home, key))


def all_latent_records(home: Path) -> list[LatentRecord]:
    """All measurements of a home, in a fixed order."""
    found = [_read(path) for path in sorted((home / "evaluations" / "latents").glob("*.json"))]
    return sorted((one for one in found if one), key=lambda one: (one.kind, one.latents["name"], one.key))


def _read(path: Path) -> LatentRecord | None:
    values = read_note(path)
    if values is None or values.pop("version", None) != VERSION:
        return None
    try:
        record = LatentRecord(**values)
        whole = _is_whole(record)
    except (TypeError, KeyError, AttributeError):  # AttributeError: no dictionary where one belongs
        return None
    return record if whole else None


def _is_whole(record: LatentRecord) -> bool:
    """Whether it has what every table and chart needs; a changed byte can leave a file valid JSON."""
    latents, result = record.latents, record.result
    named = [latents["name"], latents["content"], latents["model"]["name"]]
    kinds: dict[str, Callable[[], list[Any]]] = {
        "density": lambda: [result["n"], result["runs"], *(part[m] for part in (result["mean"], result["spread"],
                            *result["floors"].values()) for m in MEASURES)],
        "probe": lambda: [result["accuracy"], result["classes"], *result["images"].values()],
        "manifold": lambda: [result["n"], result["references"], result["effective_rank"], result["directions"],
                             result["channels"], *result["ratio"].values(), *result["inside"].values()],
    }  # fmt: skip
    numbers = kinds[record.kind]()
    inner = {"density": "settings", "probe": "protocol", "manifold": "settings"}[record.kind]
    return (
        all(isinstance(text, str) for text in named)
        and "images" in latents
        and isinstance(result[inner], dict)
        and all(isinstance(number, float | int) for number in numbers)
    )


def _path(home: Path, key: str) -> Path:
    return home / "evaluations" / "latents" / f"{key}.json"
