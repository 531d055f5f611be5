"""Which photographs are held out for validation, and the fingerprint that names a data set."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import PurePosixPath

from transvae_platform.data.sources import Photograph
from transvae_platform.errors import SpecError
from transvae_platform.study.grid import stable_hash
from transvae_platform.study.spec import Data

FORMAT_VERSION = 1
"""Raised when the same source and settings would give other samples (geometry, filters, shard layout)."""


def split_photographs(
    photographs: Sequence[Photograph], data: Data
) -> tuple[tuple[Photograph, ...], tuple[Photograph, ...]]:
    """(training photographs, held-out photographs); identical files always land on the same side.

    Raises:
        SpecError: a named photograph does not exist, or one side would be empty.
    """
    if isinstance(data.holdout, tuple):
        stems = {PurePosixPath(photo.name).stem for photo in photographs}
        for name in data.holdout:
            if name not in stems:
                close = difflib.get_close_matches(name, stems, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(sorted(stems))}"
                raise SpecError(f"data.holdout: no photograph is named {name!r} - {hint}")
        held = {photo.sha256 for photo in photographs if PurePosixPath(photo.name).stem in data.holdout}
    else:
        # ranked by a seeded hash of the content: independent of file names, stable when others are added or removed
        ranked = sorted({photo.sha256 for photo in photographs}, key=lambda sha: stable_hash([data.seed, sha]))
        held = set(ranked[: max(1, round(data.holdout * len(ranked)))])
    train = tuple(photo for photo in photographs if photo.sha256 not in held)
    validation = tuple(photo for photo in photographs if photo.sha256 in held)
    if not train:
        raise SpecError(
            f"data.holdout: all {len(photographs)} photographs would be held out, none is left to train on - "
            "lower it or add photographs"
        )
    return train, validation


def data_fingerprint(photographs: Sequence[Photograph], data: Data) -> str:
    """A hash of the photographs' contents and of everything that decides which samples they become."""
    return stable_hash(
        {
            "format": FORMAT_VERSION,
            "photographs": [[photo.name, photo.sha256] for photo in photographs],
            "settings": data.model_dump(mode="json", exclude={"path", "source", "flip"}),
        }
    )[:16]


def samples_per_photograph(data: Data) -> int:
    """How many samples a readable photograph gives."""
    return data.view.per_photograph if data.view.kind == "crops" else 1
