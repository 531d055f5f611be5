"""Several data sets as one: ids count through all of them, training takes each in its share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from transvae_platform.data.sets.samples import SampleSet, open_data
from transvae_platform.data.stream.order import Order
from transvae_platform.data.stream.pattern import MixedOrder


class Samples(Protocol):
    """Random access to samples: a `SampleSet`, or several as one."""

    def __len__(self) -> int: ...

    def order(self, window: int | None = None) -> Order:
        """In which order a training visits them."""

    def read(self, ids_B: NDArray[np.int64], field: str = "image") -> NDArray[Any]:
        """One field of some samples, (B, *shape)."""

    def expect(self, ids: NDArray[np.int64]) -> None:
        """These samples will be read soon."""


class JoinedSamples:
    """One split of several data sets whose records have the same shape."""

    def __init__(self, parts: Sequence[SampleSet], shares: Sequence[float]) -> None:
        self._parts, self._shares = tuple(parts), tuple(shares)
        self._starts = np.cumsum([0, *(len(part) for part in parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def order(self, window: int | None = None) -> Order:
        """Each part shuffled by itself, in its share of the positions."""
        orders = [part.order(window) for part in self._parts]
        return MixedOrder(orders, [len(part) for part in self._parts], self._shares, seed=0)

    def read(self, ids_B: NDArray[np.int64], field: str = "image") -> NDArray[Any]:
        """One field of some samples, (B, *shape), copied out of the shards."""
        read = [(mine, part.read(ids_B[mine] - start, field)) for part, start, mine in self._owners(ids_B)]
        out = np.empty((len(ids_B), *read[0][1].shape[1:]), read[0][1].dtype)
        for mine, values in read:
            out[mine] = values
        return out

    def expect(self, ids: NDArray[np.int64]) -> None:
        """These samples will be read soon: shards that are far away may begin to come."""
        for part, start, mine in self._owners(ids):
            part.expect(ids[mine] - start)

    def _owners(self, ids: NDArray[np.int64]) -> list[tuple[SampleSet, int, NDArray[np.bool_]]]:
        which = np.searchsorted(self._starts, ids, side="right") - 1
        return [(self._parts[part], int(self._starts[part]), which == part) for part in np.unique(which)]


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
