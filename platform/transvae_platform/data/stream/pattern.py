"""Taking turns in given shares: between the data sets of a mixture, and between the sizes of a training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from transvae_platform.data.stream.hashing import Purpose, keys
from transvae_platform.data.stream.order import Ids, Order, permute
from transvae_platform.study.data_spec import SMALLEST_SHARE


class Pattern:
    """Which of several streams comes next, in given shares: of samples in a mixture, of steps between buckets.

    The choice repeats after `period` positions, in which every stream has its exact share (largest remainder) in an
    order drawn from the seed; so the position within a stream is known at any step without counting from the start.
    """

    def __init__(self, weights: Sequence[float], purpose: Purpose, seed: int) -> None:
        period = SMALLEST_SHARE
        shares = np.asarray(weights, np.float64) / sum(weights) * period
        counts = np.floor(shares).astype(np.int64)
        for index in np.argsort(counts - shares, kind="stable")[: period - counts.sum()]:
            counts[index] += 1
        ordered = np.repeat(np.arange(len(counts)), counts)
        self._choice = ordered[permute(np.arange(period), period, keys(purpose, seed, np.zeros(period, np.int64)))]
        self._counts = counts
        taken = self._choice[:, None] == np.arange(len(counts))
        self._before = np.cumsum(taken, axis=0) - taken

    def at(self, positions: Ids) -> tuple[Ids, Ids]:
        """(which stream, position within it) at positions of the joint sequence."""
        rounds, within = np.divmod(positions, len(self._choice))
        which = self._choice[within]
        return which, rounds * self._counts[which] + self._before[within, which]


class MixedOrder:
    """Several data sets in given shares of the samples, each in its own order; ids count through all of them."""

    def __init__(self, orders: Sequence[Order], sizes: Sequence[int], weights: Sequence[float]) -> None:
        self._orders = tuple(orders)
        self._pattern = lru_cache(maxsize=1)(lambda seed: Pattern(weights, Purpose.MIXTURE, seed))
        self._starts = np.concatenate([[0], np.cumsum(sizes)])

    def ids_at(self, positions: Ids, seed: int) -> tuple[Ids, Ids]:
        """See `Order`; an epoch is that of the sample's own data set."""
        which, within = self._pattern(seed).at(positions)
        ids, epochs = np.empty_like(positions), np.empty_like(positions)
        for index, order in enumerate(self._orders):
            mine = which == index
            # a seed of its own: parts of one size would else go in step
            own, epochs[mine] = order.ids_at(within[mine], seed ^ index << 32)
            ids[mine] = self._starts[index] + own
        return ids, epochs
