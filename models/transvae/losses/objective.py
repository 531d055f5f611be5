"""The training objective: every term as a per-element mean, weighted and summed.

Reductions. Let N = 3HW be the values of an image and M = dhw those of its latent. The papers this follows (LDM,
VA-VAE, and by its own account TransVAE) sum each term over an image and divide by the batch:

    total_sum = l1 x N x mean|x - y| + kl x M x mean(kl)

The gradient of that grows with the resolution, so `Objective` returns total_sum / N, which has the same minimiser and
the same ratio between the terms:

    total = l1 x mean|x - y| + kl x (M / N) x mean(kl)             reduction="sum_per_sample"
    total = l1 x mean|x - y| + kl x mean(kl)                       reduction="mean"

So the paper's KL weight of 1e-8 under "sum_per_sample" is 4.17e-10 under "mean" for f16d32 (M/N = 1/24) and 8.33e-10
for f8d16 (M/N = 1/12).

A further loss is one file beside this one, one weight in ObjectiveConfig and one line in `forward`: a per-element mean
for anything that LDM adds inside the pixel sum (LPIPS), a weight divided by N for anything that it adds outside of it
under "sum_per_sample" (adversarial and alignment losses).

Legend: B batch, H, W pixels, d latent channels, h, w latent map.
"""

import math
from dataclasses import dataclass, fields

from torch import Tensor, nn

from transvae.losses.kl import kl
from transvae.losses.reconstruction import l1

REDUCTIONS = ("sum_per_sample", "mean")


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Weights of the terms and the reduction they are meant under. Raises ValueError for impossible values."""

    l1: float = 1.0  # TransVAE paper, section 3.1
    kl: float = 1e-8  # TransVAE paper, section 3.1, read under LDM's reduction
    reduction: str = "sum_per_sample"

    def __post_init__(self) -> None:
        if self.reduction not in REDUCTIONS:
            raise ValueError(f"reduction={self.reduction!r} does not exist; choose one of {', '.join(REDUCTIONS)}")
        for key in (f.name for f in fields(self) if f.name != "reduction"):
            weight = getattr(self, key)
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"the weight {key}={weight} must be finite and not negative")


class Objective(nn.Module):
    """objective(x, reconstruction, mu, logvar) -> (total, terms).

    `total` is a scalar in fp32, scaled as a per-element mean whatever the reduction (see above). `terms` holds detached
    scalars: "l1" and "kl" as per-element means, "l1_sum" and "kl_sum" as LDM logs them (sum per image, mean over the
    batch), and "total".
    """

    def __init__(self, config: ObjectiveConfig | None = None) -> None:
        super().__init__()
        self.config = config or ObjectiveConfig()

    def forward(
        self, x_B3HW: Tensor, reconstruction_B3HW: Tensor, mu_Bdhw: Tensor, logvar_Bdhw: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if x_B3HW.shape != reconstruction_B3HW.shape:
            raise ValueError(f"images {tuple(x_B3HW.shape)} but reconstructions {tuple(reconstruction_B3HW.shape)}")
        pixel_values, latent_values = x_B3HW[0].numel(), mu_Bdhw[0].numel()
        pixel, divergence = l1(x_B3HW, reconstruction_B3HW), kl(mu_Bdhw, logvar_Bdhw)
        kl_scale = latent_values / pixel_values if self.config.reduction == "sum_per_sample" else 1.0
        total = self.config.l1 * pixel + self.config.kl * kl_scale * divergence
        terms = {
            "l1": pixel,
            "kl": divergence,
            "l1_sum": pixel * pixel_values,
            "kl_sum": divergence * latent_values,
            "total": total,
        }
        return total, {key: term.detach() for key, term in terms.items()}
