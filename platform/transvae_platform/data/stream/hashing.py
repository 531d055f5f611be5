"""Random numbers without state: hashes of what they belong to, so that nothing need be saved to repeat them.

64-bit integers are signed here and wrap around: NumPy and torch agree on those, on every device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Integers = TypeVar("Integers", "NDArray[np.int64]", "Tensor")

GAMMA = 0x9E3779B97F4A7C15 - 2**64  # 2^64 / golden ratio: the step of SplitMix64 (Steele et al. 2014)
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64  # its two multipliers


def mix(x: Integers) -> Integers:
    """SplitMix64 of int64s, a bijection in which every input bit turns over half the output bits."""
    x = x + GAMMA
    x = (x ^ logical_shift(x, 30)) * _FIRST
    x = (x ^ logical_shift(x, 27)) * _SECOND
    return x ^ logical_shift(x, 31)


def logical_shift(x: Integers, bits: int) -> Integers:
    """To the right, with zeros from the left also where the sign is set."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def keys(seed: int, first: Integers, *more: Integers) -> Integers:
    """One key per (seed, number, number, ...), mixed one after the other, so that none can stand in for another."""
    state = mix(first * GAMMA + int(mix(np.array([seed]))[0]))
    for numbers in more:
        state = mix(state + numbers * GAMMA)
    return state


def uniforms(
    seed: int, ids: NDArray[np.int64], epochs: NDArray[np.int64], draws: int, first: int = 0
) -> NDArray[np.float64]:
    """(B, draws) numbers in [0, 1) with 53 random bits: draws number `first` and on of each (seed, id, epoch)."""
    numbers = np.arange(first + 1, first + draws + 1) * GAMMA
    hashes = mix(keys(seed, ids, epochs)[:, None] + numbers)
    return logical_shift(hashes, 11).astype(np.float64) * 2.0**-53


def coin_flips(seed: int, ids: NDArray[np.int64], epochs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """A fair coin per (seed, id, epoch): draw 0; the random crop takes those from 1 on."""
    return uniforms(seed, ids, epochs, 1)[:, 0] < 0.5
