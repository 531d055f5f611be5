"""The numbers in latent records: how they are stored, and the mean and standard deviation of each channel.

The statistics follow LightningDiT's `latents_stats.pt` (mean over N, h, w; unbiased standard deviation over the same;
mirrored latents left out), but over every latent of the training split instead of 10,000 random ones, and in float64.
Of posteriors they are those of the samples: the variance of the means plus the mean of the variances.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
"""How latents may be stored."""


def to_stored(values: Tensor, dtype: str) -> NDArray[np.generic]:
    """Values rounded to `dtype`, as shards hold them: bfloat16 as its bits in uint16.

    Raises:
        ValueError: a value is not finite, or is not in the range of `dtype`.
    """
    rounded = values.to(DTYPES[dtype])
    if not torch.isfinite(rounded).all():
        raise ValueError(f"values are not finite in {dtype}")
    array: NDArray[np.generic] = (rounded.view(torch.uint16) if dtype == "bfloat16" else rounded).cpu().numpy()
    return array


def to_float32(stored: NDArray[np.generic], dtype: str) -> NDArray[np.float32]:
    """The values that a shard holds, exactly."""
    if dtype == "bfloat16":  # the upper half of a float32
        return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return stored.astype(np.float32)


def channel_sums(values_NChw: NDArray[np.float32], content: str) -> dict[str, Any]:
    """Count, sum and sum of squares of each of the d channels, in float64, as plain values.

    `values_NChw` has C = d channels, or 2d (means, then log-variances) where `content` is `posterior`.
    """
    values = values_NChw.astype(np.float64)
    spread: NDArray[np.float64] | float = 0.0
    if content == "posterior":
        values, logvar = np.split(values, 2, axis=1)
        spread = np.exp(logvar)
    squares = values**2 + spread
    return {
        "count": values.shape[0] * values.shape[2] * values.shape[3],
        "sum": values.sum(axis=(0, 2, 3)).tolist(),
        "squares": squares.sum(axis=(0, 2, 3)).tolist(),
    }


def channel_statistics(sums: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation of each channel (d numbers each) from the sums of all pieces, in their order."""
    if not sums:
        return {}
    count = sum(piece["count"] for piece in sums)
    total = np.sum([piece["sum"] for piece in sums], axis=0)
    squares = np.sum([piece["squares"] for piece in sums], axis=0)
    variance = np.maximum(squares - total**2 / count, 0.0) / max(count - 1, 1)
    deviation = [math.sqrt(value) for value in variance]
    return {"mean": (total / count).tolist(), "std": deviation, "of": "all training latents, not mirrored"}
