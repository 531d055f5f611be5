"""Measurements of latents that find what was measured before: for the command line and, as pieces of work, for studies.

A piece of work names `kind`, `name` and `settings` of a measurement, `location` and `home`; its outcome is the record
that is kept. What a user can mend becomes a text beside it, so that one model's fault does not end the others' work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transvae_platform.data.making.work import Work
from transvae_platform.data.sets.catalogue import DataSet, find_data_set
from transvae_platform.data.sets.manifest import Manifest
from transvae_platform.data.sets.remote import CACHE_BYTES, default_cache
from transvae_platform.data.sets.samples import open_data
from transvae_platform.errors import UserError
from transvae_platform.evaluation.latent_space.density import measure_density
from transvae_platform.evaluation.latent_space.manifold import measure_manifold
from transvae_platform.evaluation.latent_space.probe import ProbeProtocol, probe
from transvae_platform.evaluation.latent_space.records import Kind, LatentRecord, keep, keep_map, kept, key_of
from transvae_platform.evaluation.latent_space.vectors import Latents

Listener = Callable[[int, int], None]


def measure(
    home: Path, kind: Kind, found: DataSet, name: str, settings: dict[str, Any], listen: Listener | None = None
) -> LatentRecord:
    """The record of a measurement, found or made.

    Args:
        settings: of `probe` those of ProbeProtocol; of `density` `images`, `runs` and `split`; of `manifold` `images`,
            `noise` and `seed`.
        name: what people call the latents.

    Raises:
        UserError: the data set cannot be measured so.
    """
    key = measurement_key(kind, found.manifest, settings)
    if record := kept(home, key):
        return record
    train, validation = (Latents(part) for part in open_data(found.location, default_cache(), CACHE_BYTES))
    result: Any
    if kind == "probe":
        result = probe(train, validation, _protocol(settings))
    elif kind == "manifold":
        result = measure_manifold(train, validation, **{**settings, "noise": tuple(settings["noise"])})
    else:
        of = train if settings["split"] == "train" else validation
        result = measure_density(
            of, images=settings["images"], runs=settings["runs"], listen=listen,
            show=lambda points: keep_map(home, key, points),
        )  # fmt: skip
    return keep(home, key, kind, name, found.manifest, result)


def measurement_key(kind: Kind, manifest: Manifest, settings: dict[str, Any]) -> str:
    """Of the record that `measure` keeps."""
    return key_of(kind, manifest, asdict(_protocol(settings)) if kind == "probe" else settings)


def measure_piece(work: Work) -> None:
    """One measurement of a study; see above."""
    try:
        home = Path(work["home"])
        measure(home, work["kind"], find_data_set(home, work["location"]), work["name"], work["settings"])
    except UserError as error:
        Path(work["refusal"]).write_text(str(error))


def _protocol(settings: dict[str, Any]) -> ProbeProtocol:
    return ProbeProtocol(**{**settings, "c": tuple(settings["c"])})
