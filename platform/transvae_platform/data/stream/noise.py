"""The noise that posteriors are sampled with: a function of what it belongs to, without a generator.

So it is the same on any number of workers and on any device (up to the device's rounding of `log` and `cos`), each
worker draws its own samples' noise only, and there is no state to save.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from transvae_platform.data.stream.hashing import GAMMA, logical_shift, mix

BITS = 24  # of each uniform: as many as float32 holds; the tails end at sqrt(2 ln 2^25) = 5.9 standard deviations


def normal_noise(keys_B: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Standard normal float32 of (B, *shape) on the keys' device, by Box and Muller's transform of their hashes.

    Args:
        keys_B: (B,) int64, of `hashing.keys`.
    """
    count = math.prod(shape)
    numbers = torch.arange(1, (count + 1) // 2 + 1, device=keys_B.device) * GAMMA
    hashes = mix(keys_B[:, None] + numbers)
    upper, lower = logical_shift(hashes, 64 - BITS), hashes & (2**BITS - 1)
    radius = (-2 * torch.log((upper.float() + 0.5) / 2**BITS)).sqrt()
    angle = lower.float() * (2 * math.pi / 2**BITS)
    normal = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)
    return normal[:, :count].reshape(len(keys_B), *shape)
