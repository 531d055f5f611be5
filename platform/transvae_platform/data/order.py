"""The order of samples: pure functions of (seed, epoch, step), the same for any number of workers, O(1) to resume."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=4)
def epoch_permutation(samples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order in which an epoch visits the ids 0..samples-1."""
    order = np.random.Generator(np.random.PCG64([seed, epoch])).permutation(samples)
    order.flags.writeable = False
    return order


def batch_ids(samples: int, batch_size: int, seed: int, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(ids, epochs) of the global batch of a step: a window on the epochs' permutations put end to end."""
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, within = np.divmod(positions, samples)
    ids = np.empty(batch_size, np.int64)
    for epoch in np.unique(epochs):
        mask = epochs == epoch
        ids[mask] = epoch_permutation(samples, seed, int(epoch))[within[mask]]
    return ids, epochs


def coin_flips(seed: int, ids: NDArray[np.int64], epochs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """A fair coin per (seed, id, epoch): the finaliser of SplitMix64 (Steele et al. 2014) as a hash."""
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is the point
        x = (ids.astype(np.uint64) << np.uint64(24)) + epochs.astype(np.uint64)
        # the seed far from the epoch, or a seed's flips would be those of its neighbour one epoch later
        x = (x + np.uint64(seed) * np.uint64(0xD1B54A32D192ED03) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return ((x ^ (x >> np.uint64(31))) & np.uint64(1)).astype(np.bool_)
