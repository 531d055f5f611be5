"""The vision-foundation (VF) alignment loss of VA-VAE (LightningDiT, contperceptual.py), as TransVAE uses it.

A latent z is projected to the channels of a frozen vision network (`Projection`) and compared with its features f
position by position (cosine), and both with themselves across positions (distance matrix).

Where the two grids differ (f8: 32x32 latents against 16x16 features) one of three rules makes them meet (TransVAE
paper, appendix F): "latents" averages the latents down (the paper's choice; that it means average pooling is an
assumption), "features" enlarges the features, "image" enlarges the image that the vision network sees.

Legend: B batch, d latent channels, C feature channels, h, w grid, P = hw positions.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transvae.losses.adaptive import BalancedConfig


@dataclass(frozen=True, kw_only=True)
class AlignmentConfig(BalancedConfig):
    """Weight and margins of the VF loss; VA-VAE's values. Raises ValueError for impossible ones."""

    weight: float = 0.1
    largest: float = 1e8
    distance_margin: float = 0.25
    cosine_margin: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("distance_margin", "cosine_margin"):
            if not 0 <= getattr(self, key) <= 2:  # cosines differ by at most 2
                raise ValueError(f"{key}={getattr(self, key)} must lie between 0 and 2")


class Projection(nn.Conv2d):
    """z (B, d, h, w) -> (B, C, h, w), linear and without bias; trained with the autoencoder.

    Initialised as VA-VAE's (torch's default for convolutions) with torch's global generator.
    """

    def __init__(self, latent_dim: int, channels: int) -> None:
        super().__init__(latent_dim, channels, kernel_size=1, bias=False)


def meet(z_Bdhw: Tensor, features_BChw: Tensor, match: str) -> tuple[Tensor, Tensor]:
    """Both on one grid, by the rule `match`. `meeting` says beforehand whether and where."""
    if match == "latents":
        z_Bdhw = F.avg_pool2d(z_Bdhw, z_Bdhw.shape[-1] // features_BChw.shape[-1])
    elif match == "features":
        features_BChw = F.interpolate(features_BChw, size=z_Bdhw.shape[2:], mode="bilinear", align_corners=False)
    return z_Bdhw, features_BChw


def alignment(
    projected_BChw: Tensor, features_BChw: Tensor, distance_margin: float, cosine_margin: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """(total, terms): total = terms["distance"] + terms["cosine"], scalars >= 0 in fp32.

    distance = mean relu(|cos(z_i, z_j) - cos(f_i, f_j)| - distance_margin) over all P^2 pairs of an image, i = j too;
    cosine = mean relu(1 - cosine_margin - cos(z_i, f_i)). Raises ValueError for two shapes.
    """
    if projected_BChw.shape != features_BChw.shape:
        raise ValueError(
            f"projected latents {tuple(projected_BChw.shape)} and features {tuple(features_BChw.shape)} do not meet"
        )
    with torch.autocast(projected_BChw.device.type, enabled=False):
        z_BCP, f_BCP = (F.normalize(map_.float().flatten(2), dim=1) for map_ in (projected_BChw, features_BChw))
        difference_BPP = (z_BCP.mT @ z_BCP - f_BCP.mT @ f_BCP).abs()
        distance = F.relu(difference_BPP - distance_margin).mean()
        cosine = F.relu(1.0 - cosine_margin - (z_BCP * f_BCP).sum(dim=1)).mean()
    return distance + cosine, {"distance": distance, "cosine": cosine}
