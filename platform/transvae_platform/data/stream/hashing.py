"""Random numbers without state: hashes of what they belong to, so that nothing need be saved to repeat them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: the step of SplitMix64 (Steele et al. 2014)


def mix(x: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64, a bijection of 64 bits in which every input bit turns over half the output bits."""
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is the point
        x = (np.asarray(x) + _GAMMA).astype(np.uint64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def uniforms(seed: int, ids: NDArray[np.int64], epochs: NDArray[np.int64], draws: int) -> NDArray[np.float64]:
    """(B, draws) numbers in [0, 1), each a hash of (seed, id, epoch, number of the draw) with 53 random bits.

    Seed, id and epoch are mixed one after the other, so that none can stand in for another.
    """
    with np.errstate(over="ignore"):
        state = mix(np.array([seed % 2**64], np.uint64))
        state = mix(state + ids.astype(np.uint64) * _GAMMA)
        state = mix(state + epochs.astype(np.uint64) * _GAMMA)
        hashes = mix(state[:, None] + np.arange(1, draws + 1, dtype=np.uint64) * _GAMMA)
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53
