"""The order of samples: pure functions of (seed, epoch, step), the same for any number of workers, O(1) to resume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from transvae_platform.data.stream.hashing import Purpose, keys, mix

Ids = NDArray[np.int64]

ROUNDS = 6  # of the Feistel network; 4 pass for a pseudorandom permutation (Luby and Rackoff 1988), 2 in reserve


def permute(positions: Ids, samples: int, keyed: Ids) -> Ids:
    """The id at each position, each in the order that its key (`hashing.keys`) gives: a bijection of 0..samples-1.

    A Feistel network over the next power of four, and cycle walking (Black and Rogaway 2002) back into the range.
    """
    half = max(1, ((samples - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    values = positions.copy()
    outside = np.arange(len(values))
    while len(outside):
        left, right = values[outside] >> half, values[outside] & mask
        key = keyed[outside]
        for number in range(ROUNDS):
            left, right = right, left ^ (mix(right + key + (number << 56)) & mask)
        values[outside] = left << half | right
        outside = outside[values[outside] >= samples]
    return values


class Order(Protocol):
    """Which sample stands at a position of the endless sequence of epochs."""

    def ids_at(self, positions: Ids, seed: int) -> tuple[Ids, Ids]:
        """(ids, epochs) at positions >= 0."""


@dataclass(frozen=True)
class FullOrder:
    """Every epoch in an order of its own, over all samples; computed, so that no table grows with their number."""

    samples: int

    def ids_at(self, positions: Ids, seed: int) -> tuple[Ids, Ids]:
        """See `Order`."""
        epochs, within = np.divmod(positions, self.samples)
        return permute(within, self.samples, keys(Purpose.ORDER, seed, epochs)), epochs


@dataclass(frozen=True)
class ShardOrder:
    """An order for data larger than the disks: a few shards at a time, in random order, mixed within the few.

    Each epoch permutes the shards, takes them `window` at a time and permutes the records of each window. A reader
    then needs `window` shards at hand, not all of them; the mixing is that of a shuffle buffer of as many records.
    """

    records: Sequence[int]
    """Of each shard."""
    window: int

    def ids_at(self, positions: Ids, seed: int) -> tuple[Ids, Ids]:
        """See `Order`; ids count through the shards as they are listed."""
        sizes = np.asarray(self.records, np.int64)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        epochs, within = np.divmod(positions, int(starts[-1]))
        ids = np.empty_like(within)
        for epoch in np.unique(epochs):
            mine = epochs == epoch
            count = len(sizes)
            shards = permute(np.arange(count), count, keys(Purpose.SHARDS, seed, np.full(count, epoch)))
            ends = np.cumsum(sizes[shards])
            window = np.searchsorted(ends, within[mine], side="right") // self.window
            ids[mine] = self._within_windows(within[mine], window, shards, ends, sizes, starts, seed, int(epoch))
        return ids, epochs

    def _within_windows(
        self, positions: Ids, windows: Ids, shards: Ids, ends: Ids, sizes: Ids, starts: Ids, seed: int, epoch: int
    ) -> Ids:
        ids = np.empty_like(positions)
        for window in np.unique(windows):
            mine = windows == window
            members = slice(window * self.window, min((window + 1) * self.window, len(shards)))
            first = ends[members.start] - sizes[shards[members.start]]
            total = int(ends[members.stop - 1] - first)
            within = positions[mine] - first
            keyed = keys(Purpose.WINDOW, seed, np.full_like(within, epoch), np.full_like(within, window))
            drawn = first + permute(within, total, keyed)
            place = np.searchsorted(ends, drawn, side="right")
            shard = shards[place]
            ids[mine] = starts[shard] + drawn - (ends[place] - sizes[shard])
        return ids
