"""Convolution blocks: the residual block of LDM and TransVAE, and the overlapping patch embedding.

Legend: B batch, C channels, H, W map.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from transvae.layers.initialise import as_branch_output
from transvae.layers.normalisation import group_norm


class ResBlock(nn.Module):
    """norm, SiLU, conv3x3, norm, SiLU, conv3x3, plus a shortcut (1x1 where the width changes).

    In (B, a, H, W), out (B, b, H, W). 9ab + 9b^2 + 2a + 4b parameters, and ab + b for the 1x1 shortcut. (CompVis
    latent-diffusion ResnetBlock without time embedding; TransVAE paper, section 3.2.2 for its first two stages.)
    """

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.norm1 = group_norm(a)
        self.conv1 = nn.Conv2d(a, b, 3, padding=1)
        self.norm2 = group_norm(b)
        self.conv2 = as_branch_output(nn.Conv2d(b, b, 3, padding=1))
        self.shortcut = nn.Conv2d(a, b, 1) if a != b else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h_BCHW = self.conv1(F.silu(self.norm1(x_BCHW)))
        out: Tensor = self.shortcut(x_BCHW) + self.conv2(F.silu(self.norm2(h_BCHW)))
        return out


def pixel_head(norm: nn.Module, channels: int) -> nn.Sequential:
    """norm, SiLU, conv3x3 to RGB: (B, C, H, W) -> (B, 3, H, W)."""
    return nn.Sequential(norm, nn.SiLU(), nn.Conv2d(channels, 3, 3, padding=1))


def sequential_stem(channels: int, patch: int) -> nn.Sequential:
    """Overlapping patch embedding: (B, 3, H, W) -> (B, C, H/patch, W/patch) by stride-2 3x3 convolutions.

    Widths C/8, C/4, C/2, C for patch 16, GroupNorm after each, GELU between. 5.90625C^2 + 7.125C parameters at patch
    16. (TransVAE paper, section 3.2.2 after DHVT's convolutional patch embedding; the paper gives no widths, GroupNorm
    replaces DHVT's BatchNorm.)
    """
    halvings = patch.bit_length() - 1
    widths = [3, *(channels // 2**i for i in reversed(range(halvings)))]
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise(widths)):
        layers += [nn.GELU()] if i else []
        layers += [nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False), group_norm(b)]
    return nn.Sequential(*layers)


def sequential_head(channels: int, patch: int) -> nn.Sequential:
    """The stem reversed: (B, C, H, W) -> (B, 3, patch x H, patch x W), nearest x2 and conv3x3 in turn.

    Widths C/2, C/4, C/8, 3 for patch 16, GroupNorm and GELU after all but the last. 5.90625C^2 + 5.125C + 3 parameters
    at patch 16. (TransVAE paper, section 3.2.2; widths are this project's mirror of the stem.)
    """
    halvings = patch.bit_length() - 1
    widths = [channels // 2**i for i in range(halvings)]
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(a, b, 3, padding=1, bias=False), group_norm(b), nn.GELU()]
    layers += [nn.Upsample(scale_factor=2), nn.Conv2d(widths[-1], 3, 3, padding=1)]
    return nn.Sequential(*layers)
