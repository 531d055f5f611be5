"""Which samples a worker reads at which step: its slice of every global batch, for any step, without state."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from transvae_platform.data.sets.mixture import Samples
from transvae_platform.data.stream.hashing import coin_flips
from transvae_platform.data.stream.order import Ids
from transvae_platform.errors import UserError

POSITIONS_AHEAD = 4096  # ids computed at once: small batches would otherwise pay NumPy's overhead per call
EXPECTATIONS = 8  # per block of those (assumption): distant shards are asked for that often, to follow the reader


class Turns:
    """One worker's ids, and what is drawn with them."""

    def __init__(self, samples: Samples, window: int | None, batch_size: int, seed: int, rank: int, world: int) -> None:
        if len(samples) < batch_size:
            raise UserError(
                f"data: {len(samples)} training samples are fewer than one batch of {batch_size} - "
                "add images, cut more crops (data.view.per_photograph) or lower recipe.batch_size"
            )
        assert batch_size % world == 0, "the grid refuses batches that do not divide"
        self._samples, self._batch_size, self._seed = samples, batch_size, seed
        self._order = samples.order(window)
        share = batch_size // world
        self._mine = slice(rank * share, (rank + 1) * share)
        self._steps_ahead = max(1, POSITIONS_AHEAD // batch_size)
        self._block = lru_cache(maxsize=2)(self._draw)
        self._step = -1  # the one before: after a jump distant shards are asked for at once

    def at(self, step: int) -> tuple[Ids, Ids, NDArray[np.bool_]]:
        """(ids, their epochs, their coins) of this worker's part of a step (0-based); what follows begins to come."""
        block, within = divmod(step, self._steps_ahead)
        start = within * self._batch_size
        mine = slice(start + self._mine.start, start + self._mine.stop)
        ids, epochs, coins = self._block(block)
        if within % -(-self._steps_ahead // EXPECTATIONS) == 0 or step != self._step + 1:
            self._samples.expect(np.concatenate([ids[start:], self._block(block + 1)[0]]))
        self._step = step
        return ids[mine], epochs[mine], coins[mine]

    def _draw(self, block: int) -> tuple[Ids, Ids, NDArray[np.bool_]]:
        count = self._steps_ahead * self._batch_size
        ids, epochs = self._order.ids_at(np.arange(block * count, (block + 1) * count), self._seed)
        return ids, epochs, coin_flips(self._seed, ids, epochs)
