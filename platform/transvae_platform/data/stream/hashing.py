"""Random numbers without state: hashes of what they belong to, so that nothing need be saved to repeat them.

64-bit integers are signed here and wrap around: NumPy and torch agree on those, on every device.
"""

from __future__ import annotations

from enum import IntEnum
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


class Purpose(IntEnum):
    """What random numbers are drawn for; two purposes share none, whatever numbers they count by."""

    ORDER = 1
    """Of all samples in an epoch."""
    SHARDS = 2
    """The order of shards in an epoch."""
    WINDOW = 3
    """The order of samples within a few shards."""
    MIXTURE = 4
    """Which data set a sample comes from."""
    BUCKET = 5
    """Which size a step has."""
    FLIP = 6
    CROP = 7
    NOISE = 8
    """Of the posterior, in training."""
    LATENT = 9
    """Of the posterior, in latents that are stored."""
    EVALUATION = 10
    """Of the posterior, in evaluations."""
    PATH = 11
    """The noise that a path to a latent begins with, in a generator's training."""
    TIME = 12
    """Where on that path the generator is asked."""
    DROPOUT = 13
    """Whether it is told the label."""
    SAMPLE = 14
    """The noise that a sample begins with."""
    SAMPLE_LABEL = 15
    """Its label."""


def keys(purpose: Purpose, seed: int, first: Integers, *more: Integers) -> Integers:
    """One key per (purpose, seed, number, number, ...), mixed one after the other: none can stand in for another."""
    owner = mix(mix(np.array([seed])) + np.array([purpose]) * GAMMA)
    state = mix(first * GAMMA + int(owner[0]))
    for numbers in more:
        state = mix(state + numbers * GAMMA)
    return state


def uniforms(
    purpose: Purpose, seed: int, ids: NDArray[np.int64], epochs: NDArray[np.int64], draws: int
) -> NDArray[np.float64]:
    """(B, draws) numbers in [0, 1) with 53 random bits, for each (seed, id, epoch)."""
    numbers = np.arange(1, draws + 1) * GAMMA
    hashes = mix(keys(purpose, seed, ids, epochs)[:, None] + numbers)
    return logical_shift(hashes, 11).astype(np.float64) * 2.0**-53


def coin_flips(seed: int, ids: NDArray[np.int64], epochs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """A fair coin per (seed, id, epoch)."""
    return uniforms(Purpose.FLIP, seed, ids, epochs, 1)[:, 0] < 0.5
