"""Several data sets as one: ids count through all of them, training takes each in its share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from transvae_platform.data.sets.gather import Empty, Piece, gather
from transvae_platform.data.sets.manifest import Manifest
from transvae_platform.data.sets.samples import SampleSet, open_data
from transvae_platform.data.stream.order import Order
from transvae_platform.data.stream.pattern import MixedOrder
from transvae_platform.errors import UserError


class Samples(Protocol):
    """Random access to samples: a `SampleSet`, or several as one."""

    def __len__(self) -> int: ...

    def order(self, window: int | None = None) -> Order:
        """In which order a training visits them."""

    @property
    def parts(self) -> Sequence[tuple[Manifest, float]]:
        """The data sets that the samples are of, each with its share of a training."""

    def read(
        self, ids_B: NDArray[np.int64], *fields: str, choice_B: NDArray[Any] | None = None, empty: Empty = np.empty
    ) -> NDArray[Any]:
        """One field of some samples, (B, *shape), copied out of the shards; see `SampleSet.read`."""

    def labels(self, ids_B: NDArray[np.int64]) -> NDArray[np.int64]:
        """(B,) class numbers of some samples."""

    def column(self, ids_B: NDArray[np.int64], name: str) -> list[Any]:
        """A plain column of some samples: null where a shard has no such column."""

    def sources(self) -> NDArray[np.int64]:
        """(n,) for every sample the one that it is an edit of, -1 where it is of none."""

    def expect(self, ids: NDArray[np.int64]) -> None:
        """These samples will be read soon."""


class JoinedSamples:
    """One split of several data sets whose records mean the same."""

    def __init__(self, parts: Sequence[SampleSet], shares: Sequence[float]) -> None:
        """Raises UserError if the parts differ in their fields, or latents in their model."""
        _refuse_strangers([part.manifest for part in parts])
        self._parts, self._shares = tuple(parts), tuple(shares)
        self._starts = np.cumsum([0, *(len(part) for part in parts)])

    @property
    def parts(self) -> tuple[tuple[Manifest, float], ...]:
        """The data sets, each with its share of a training."""
        return tuple((part.manifest, share) for part, share in zip(self._parts, self._shares, strict=True))

    def __len__(self) -> int:
        return int(self._starts[-1])

    def order(self, window: int | None = None) -> Order:
        """Each part shuffled by itself, in its share of the positions."""
        orders = [part.order(window) for part in self._parts]
        return MixedOrder(orders, [len(part) for part in self._parts], self._shares)

    def read(
        self, ids_B: NDArray[np.int64], *fields: str, choice_B: NDArray[Any] | None = None, empty: Empty = np.empty
    ) -> NDArray[Any]:
        """One field of some samples, (B, *shape), copied out of the shards; see `SampleSet.read`."""
        return gather(len(ids_B), self._pieces(ids_B, fields, choice_B), empty)

    def _pieces(
        self, ids_B: NDArray[np.int64], fields: tuple[str, ...], choice_B: NDArray[Any] | None
    ) -> Iterator[Piece]:
        for part, start, mine in self._owners(ids_B):
            choice = None if choice_B is None else choice_B[mine]
            yield from part.pieces(ids_B[mine] - start, fields, choice, np.flatnonzero(mine))

    def labels(self, ids_B: NDArray[np.int64]) -> NDArray[np.int64]:
        """(B,) class numbers of some samples.

        Raises:
            UserError: a shard holds records without a label.
        """
        out = np.empty(len(ids_B), np.int64)
        for part, start, mine in self._owners(ids_B):
            out[mine] = part.labels(ids_B[mine] - start)
        return out

    def column(self, ids_B: NDArray[np.int64], name: str) -> list[Any]:
        """A plain column of some samples: null where a shard has no such column."""
        cells: list[Any] = [None] * len(ids_B)
        for part, start, mine in self._owners(ids_B):
            for place, cell in zip(np.flatnonzero(mine).tolist(), part.column(ids_B[mine] - start, name), strict=True):
                cells[place] = cell
        return cells

    def sources(self) -> NDArray[np.int64]:
        """(n,) for every sample the one that it is an edit of, -1 where it is of none; errors as in `SampleSet`."""
        each = [part.sources() for part in self._parts]
        joined = [np.where(of >= 0, of + start, -1) for of, start in zip(each, self._starts[:-1], strict=True)]
        return np.concatenate(joined)

    def expect(self, ids: NDArray[np.int64]) -> None:
        """These samples will be read soon: shards that are far away may begin to come."""
        for part, start, mine in self._owners(ids):
            part.expect(ids[mine] - start)

    def _owners(self, ids: NDArray[np.int64]) -> list[tuple[SampleSet, int, NDArray[np.bool_]]]:
        which = np.searchsorted(self._starts, ids, side="right") - 1
        return [(self._parts[part], int(self._starts[part]), which == part) for part in np.unique(which)]


def _refuse_strangers(manifests: Sequence[Manifest]) -> None:
    """A training takes the records of all parts for the same kind of thing, and their labels for the same classes."""
    known: dict[str, tuple[Manifest, Any]] = {}
    for manifest in manifests:
        for key, value in _meaning(manifest).items():
            if key == "classes" and not value:  # not named: nothing can be said
                continue
            first, expected = known.setdefault(key, (manifest, value))
            if value != expected:
                raise UserError(
                    f"data.parts: {key} of {first.fingerprint} and {manifest.fingerprint} differ "
                    f"({expected} and {value}) - leave one of them out, or make it anew like the other"
                )


def _meaning(manifest: Manifest) -> dict[str, Any]:
    settings = manifest.settings
    return {
        "fields": [(field.name, field.shape, field.dtype) for field in manifest.fields],
        "content": settings.get("content"),
        "model": settings.get("model", {}).get("weights_sha256"),
        # autoencoders read no labels
        "classes": manifest.source.get("classes") if manifest.kind == "latents" else None,
    }


def open_training_data(
    places: Sequence[tuple[str, float]], cache: Path, cache_bytes: int, centre: int | None = None
) -> tuple[Samples, Samples]:
    """(training samples, validation samples) of the data sets at (location, share); see `open_data`."""
    opened = [open_data(location, cache, cache_bytes, centre, len(places)) for location, _ in places]
    if len(opened) == 1:
        return opened[0]
    train, validation = zip(*opened, strict=True)
    shares = [share for _, share in places]
    return JoinedSamples(train, shares), JoinedSamples(validation, shares)
