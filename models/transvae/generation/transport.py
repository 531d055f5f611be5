"""The objective of LightningDiT: the velocity of straight paths from noise (t = 0) to data (t = 1).

x_t = t x_1 + (1 - t) x_0 with data x_1 and noise x_0, target u = x_1 - x_0; times are logit-normal; the loss is the
mean squared error plus the mean of 1 - cosine, the cosine over channels (LightningDiT, transport/transport.py).

Legend: B batch, d latent channels, h, w latent positions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class VelocityLoss(NamedTuple):
    """The two terms, means over the batch, fp32. A network that answers zero has 2 + 1 on unit-variance latents."""

    mse: Tensor
    cosine: Tensor

    @property
    def total(self) -> Tensor:
        return self.mse + self.cosine


def logit_normal_times(normal_B: Tensor) -> Tensor:
    """Times in (0, 1) from standard normal numbers: sigmoid of each."""
    return torch.sigmoid(normal_B)


def interpolate(data_Bdhw: Tensor, noise_Bdhw: Tensor, t_B: Tensor) -> tuple[Tensor, Tensor]:
    """(x_t, u): the point of each path at its time, and its velocity."""
    t_B111 = t_B[:, None, None, None].to(data_Bdhw.dtype)
    return torch.lerp(noise_Bdhw, data_Bdhw, t_B111), data_Bdhw - noise_Bdhw


def velocity_loss(predicted_Bdhw: Tensor, velocity_Bdhw: Tensor) -> VelocityLoss:
    """Mean squared error over all values, and the mean of 1 - cosine over positions; computed in fp32."""
    predicted_Bdhw, velocity_Bdhw = predicted_Bdhw.float(), velocity_Bdhw.float()
    cosine_Bhw = F.cosine_similarity(predicted_Bdhw, velocity_Bdhw, dim=1)
    return VelocityLoss(F.mse_loss(predicted_Bdhw, velocity_Bdhw), (1 - cosine_Bhw).mean())
