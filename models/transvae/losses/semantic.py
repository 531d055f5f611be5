"""What S-VAE and PS-VAE minimise: features regressed from the latent, pixels beside them in the second phase.

    total = semantic MSE(f', f) + cosine (1 - cos(f', f))      f: of the frozen twin, f': of the semantic decoder
          + l1 L1(x, x') + mse MSE(x, x') + lpips LPIPS(x, x')  with pixels only
          + kl KL

Weights are the guide's; what it leaves open is a key. Its equation sums KL over the latent's channels, its code takes
the mean over everything: `kl_reduction`. Each reduction multiplies the mean per value: "mean" by 1, "sum_channels" by
the number of channels (a sum per position, mean over positions), "sum_per_sample" by all values of a sample (LDM's).

Legend: B batch, H, W pixels, C feature channels, d latent channels, h, w latent map.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transvae.losses.frozen import Frozen
from transvae.losses.kl import kl
from transvae.losses.reconstruction import l1

REDUCTIONS = ("mean", "sum_channels", "sum_per_sample")
Terms = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class SemanticConfig:
    """Weights and reductions. Raises ValueError for impossible values."""

    semantic: float = 1.0  # guide
    cosine: float = 0.0  # the guide has none; that the paper has one is hearsay
    l1: float = 0.5  # guide: 1.0 x (0.5 L1 + 0.5 MSE)
    mse: float = 0.5  # guide
    lpips: float = 0.1  # guide; any needs the network
    kl: float = 1e-4  # guide
    kl_reduction: str = "mean"  # of the guide's code and of its companion's; its equation is "sum_channels"
    semantic_reduction: str = "mean"  # of the guide's code

    def __post_init__(self) -> None:
        for key in ("kl_reduction", "semantic_reduction"):
            if getattr(self, key) not in REDUCTIONS:
                raise ValueError(f"{key}={getattr(self, key)!r} does not exist; choose one of {', '.join(REDUCTIONS)}")
        for key in ("semantic", "cosine", "l1", "mse", "lpips", "kl"):
            weight = getattr(self, key)
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"the weight {key}={weight} must be finite and not negative")


class SemanticObjective(nn.Module):
    """objective(features, target, mu, logvar, pixels) -> (total, terms).

    `total` is a scalar in fp32. `terms` holds detached scalars, means per value whatever the reductions: "semantic"
    (the MSE), "cosine" (the mean similarity, 1 where all point the same way), "kl", "kl_sum" (per image), "total", and
    with pixels "l1", "mse", "lpips". What is compared with a random network is called "semantic_random", ...

    Args:
        twin: the frozen network whose features are the target.
        lpips: required for a weight of it.
    """

    def __init__(self, config: SemanticConfig, twin: Frozen, lpips: Frozen | None = None) -> None:
        super().__init__()
        if config.lpips and lpips is None:
            raise ValueError("the objective has a weight for lpips and needs the network behind it")
        self.config = config
        self.twin = twin
        self.lpips = lpips if config.lpips else None

    def forward(
        self, features_BChw: Tensor, target_BChw: Tensor, mu_Bdhw: Tensor, logvar_Bdhw: Tensor,
        pixels: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Terms]:  # fmt: skip
        """`pixels` are the images and their reconstructions, both (B, 3, H, W); None in the semantic phase.

        Raises ValueError for two shapes.
        """
        config = self.config
        squares, similarity = agreement(features_BChw, target_BChw.detach())
        divergence = kl(mu_Bdhw, logvar_Bdhw)
        total = config.semantic * reduced(config.semantic_reduction, target_BChw) * squares
        total = total + config.cosine * (1 - similarity)
        total = total + config.kl * reduced(config.kl_reduction, mu_Bdhw) * divergence
        terms = {
            self.twin.term("semantic"): squares, self.twin.term("cosine"): similarity, "kl": divergence,
            "kl_sum": divergence * mu_Bdhw[0].numel(),
        }  # fmt: skip
        if pixels is not None:
            distance, more = self.pixels(*pixels)
            total, terms = total + distance, terms | more
        terms["total"] = total
        return total, {name: value.detach() for name, value in terms.items()}

    def pixels(self, x_B3HW: Tensor, reconstruction_B3HW: Tensor) -> tuple[Tensor, Terms]:
        """(total, terms) of the terms of pixels alone; the terms carry gradients. Raises ValueError for two shapes."""
        if x_B3HW.shape != reconstruction_B3HW.shape:
            raise ValueError(f"images {tuple(x_B3HW.shape)} but reconstructions {tuple(reconstruction_B3HW.shape)}")
        terms = {
            "l1": l1(x_B3HW, reconstruction_B3HW),
            "mse": F.mse_loss(reconstruction_B3HW.float(), x_B3HW.float()),
        }
        total = self.config.l1 * terms["l1"] + self.config.mse * terms["mse"]
        if self.lpips is not None:
            name = self.lpips.term("lpips")
            terms[name] = self.lpips(x_B3HW, reconstruction_B3HW).mean()
            total = total + self.config.lpips * terms[name]
        return total, terms


def agreement(features_BChw: Tensor, target_BChw: Tensor) -> tuple[Tensor, Tensor]:
    """(mean squared error per value, mean cosine over positions) of two feature maps, in fp32.

    The two numbers an S-VAE is judged by, as it has no pixels. Raises ValueError for two shapes.
    """
    if features_BChw.shape != target_BChw.shape:
        raise ValueError(f"features {tuple(features_BChw.shape)} but targets {tuple(target_BChw.shape)}")
    with torch.autocast(features_BChw.device.type, enabled=False):
        features_BChw, target_BChw = features_BChw.float(), target_BChw.float()
        cosine_Bhw = F.cosine_similarity(features_BChw, target_BChw, dim=1)
        return F.mse_loss(features_BChw, target_BChw), cosine_Bhw.mean()


def reduced(reduction: str, values_Bchw: Tensor) -> int:
    """What a mean per value of a map like this is multiplied with."""
    return {"mean": 1, "sum_channels": values_Bchw.shape[1], "sum_per_sample": values_Bchw[0].numel()}[reduction]
