"""Normalisations, and one rule for the number of groups.

Legend: B batch, H, W map, C channels; token maps are channel-last (x_BHWC), feature maps channel-first (x_BCHW).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import Parameter

EPS = 1e-6  # assumption, the LDM value for GroupNorm; torch's 1e-5 stays for LayerNorm
MAX_GROUPS = 32  # CompVis latent-diffusion: GroupNorm(32) in every ResBlock
MIN_GROUP = 4  # channels per group at the paper's narrowest stage (128 / 32); fewer stops narrow CNNs from training


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last dimension (TransVAE paper, section 3.3.2). Shape and dtype are kept."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = Parameter(torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        # The weight follows the input's dtype: under autocast they differ, and mixed dtypes leave the fused kernel.
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), EPS)


class ChannelNorm(nn.Module):
    """A last-dimension norm applied to the channels of a feature map. In and out (B, C, H, W)."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x_BCHW: Tensor) -> Tensor:
        normed_BHWC: Tensor = self.norm(x_BCHW.permute(0, 2, 3, 1))
        return normed_BHWC.permute(0, 3, 1, 2)


def token_norm(kind: str, channels: int, bias: bool) -> nn.Module:
    """ "rms" or "layer" over the last dimension; `bias` concerns LayerNorm, RMSNorm has none."""
    return RMSNorm(channels) if kind == "rms" else nn.LayerNorm(channels, bias=bias)


def groups(channels: int) -> int:
    """The largest divisor of `channels` not above min(32, channels / 4): 32 at every paper size."""
    limit = max(1, min(MAX_GROUPS, channels // MIN_GROUP))
    return next(g for g in range(limit, 0, -1) if channels % g == 0)


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm for feature maps (B, C, H, W), affine."""
    return nn.GroupNorm(groups(channels), channels, eps=EPS)
