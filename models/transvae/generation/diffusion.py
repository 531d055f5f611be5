"""Noise prediction (DDPM) and its deterministic sampling (DDIM), beside the velocities of transport.py.

Steps count from 0 (least noise) to T - 1. x_s = sqrt(a_s) x_0 + sqrt(1 - a_s) e, with a_s the product of 1 - beta up to
and with s (Ho et al. 2020, equation 4); the loss is the mean squared error of e (their L_simple).

Legend: B batch, d latent channels, h, w latent positions, T steps.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from transvae.generation.noise_schedule import NoiseSchedule
from transvae.generation.sampling import Velocity

SPACINGS = ("trailing", "leading")


def add_noise(data_Bdhw: Tensor, noise_Bdhw: Tensor, kept_B: Tensor) -> Tensor:
    """x_s of data and noise, with a_s of each sample."""
    kept_B111 = kept_B[:, None, None, None].double()
    signal, spread = kept_B111.sqrt().to(data_Bdhw.dtype), (1 - kept_B111).sqrt().to(data_Bdhw.dtype)
    return signal * data_Bdhw + spread * noise_Bdhw


def noise_loss(predicted_Bdhw: Tensor, noise_Bdhw: Tensor) -> Tensor:
    """Mean squared error over all values, in fp32; 1 for a network that answers zero."""
    return F.mse_loss(predicted_Bdhw.float(), noise_Bdhw.float())


def sampling_steps(schedule: NoiseSchedule, count: int = 50, spacing: str = "trailing") -> list[int]:
    """`count` steps, falling, at which the noise is predicted (50: the guide's configuration; its loop runs all T).

    "trailing" begins at the last step, where only noise is left (Lin et al. 2024, table 2); "leading" ends at the first
    (DDIM; diffusers' default). Raises ValueError for a count outside 1 to T.
    """
    if not 1 <= count <= schedule.steps:
        raise ValueError(f"{count} sampling steps of a schedule of {schedule.steps}; take 1 to {schedule.steps}")
    if spacing not in SPACINGS:
        raise ValueError(f"spacing={spacing!r} does not exist; choose one of {', '.join(SPACINGS)}")
    even = [index * schedule.steps // count for index in range(count + 1)]
    chosen = [end - 1 for end in even[1:]] if spacing == "trailing" else even[:-1]
    return chosen[::-1]


@torch.no_grad()
def ddim(predict: Velocity, noise_Bdhw: Tensor, schedule: NoiseSchedule, at: list[int]) -> Tensor:
    """From noise to latents by DDIM at sigma 0 (Song et al. 2021, equation 12), one prediction per step of `at`.

    Args:
        predict: the noise in x (B, d, h, w) at steps (B,), as floats; guided, if it is to be.
    """
    kept = schedule.kept().tolist()
    x_Bdhw = noise_Bdhw
    for step, after in itertools.pairwise([*at, None]):
        assert step is not None
        a, b = kept[step], 1.0 if after is None else kept[after]
        e_Bdhw = predict(x_Bdhw, x_Bdhw.new_full((len(x_Bdhw),), float(step)))
        data_Bdhw = (x_Bdhw - math.sqrt(1 - a) * e_Bdhw) / math.sqrt(a)
        x_Bdhw = math.sqrt(b) * data_Bdhw + math.sqrt(1 - b) * e_Bdhw
    return x_Bdhw
