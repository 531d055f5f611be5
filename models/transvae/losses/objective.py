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

Terms that VA-VAE adds inside the pixel sum (LPIPS) join L1 as means. The weights of terms that it adds outside of it
(alignment, adversarial), and the bounds of their adaptive ratios, are divided by N under "sum_per_sample": the ratio of
summed losses is N times that of means, so weight x min(N r, largest) / N = weight x min(r, largest / N).

A stage that trains the decoder alone sets `encoder_frozen`: KL and alignment have no way to the decoder, so they are
left out of the total and computed without gradients, for the record.

A further loss is one file beside this one, one weight in ObjectiveConfig and one line in `generator`.

Legend: B batch, H, W pixels, d latent channels, C feature channels, h, w latent map.
"""

import math
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from transvae.losses.adaptive import Balanced, Mean, weigh
from transvae.losses.adversarial import AdversarialConfig, generator_loss, hinge_loss
from transvae.losses.alignment import AlignmentConfig, alignment
from transvae.losses.frozen import Frozen
from transvae.losses.kl import kl
from transvae.losses.reconstruction import l1

REDUCTIONS = ("sum_per_sample", "mean")
Terms = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Weights of the terms and the reduction they are meant under. Raises ValueError for impossible values.

    L1 and KL are always on record; a further term without a weight (0, or None) is not computed.
    """

    l1: float = 1.0  # TransVAE paper, section 3.1
    lpips: float = 0.0  # the paper's is 1.0 (section 3.1); any needs the network
    kl: float = 1e-8  # TransVAE paper, section 3.1, read under LDM's reduction
    vf: AlignmentConfig | None = None
    gan: AdversarialConfig | None = None
    encoder_frozen: bool = False
    reduction: str = "sum_per_sample"

    def __post_init__(self) -> None:
        if self.reduction not in REDUCTIONS:
            raise ValueError(f"reduction={self.reduction!r} does not exist; choose one of {', '.join(REDUCTIONS)}")
        for key in ("l1", "lpips", "kl"):
            weight = getattr(self, key)
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"the weight {key}={weight} must be finite and not negative")


class Objective(nn.Module):
    """objective(x, reconstruction, mu, logvar) -> (total, terms); `generator` and `discriminator` for all the losses.

    `total` is a scalar in fp32, scaled as a per-element mean whatever the reduction (see above). `terms` holds detached
    scalars: "l1" and "kl" as per-element means, "l1_sum" and "kl_sum" as LDM logs them (sum per image, mean over the
    batch), and "total". Further losses add "lpips" and "lpips_sum"; "vf", "vf_distance" and "vf_cosine"; "gan".
    What is in `total` of kl, vf and gan has "_weight" (as multiplied with the mean in `total`), "_weight_sum" (in LDM's
    units; those of l1 and lpips are equal in both) and, if adaptive, "_clamped" (1 where the bound cut the ratio). What
    random networks say is called "lpips_random", "vf_random", ...

    `lpips` and `vision` are the frozen networks (perceptual.py, features.py), required for terms with a weight.
    """

    def __init__(
        self, config: ObjectiveConfig | None = None, lpips: Frozen | None = None, vision: Frozen | None = None
    ) -> None:
        super().__init__()
        self.config = config or ObjectiveConfig()
        for key, wanted, network in (("lpips", self.config.lpips, lpips), ("vf", self.config.vf, vision)):
            if wanted and network is None:
                raise ValueError(f"the objective has a weight for {key} and needs the network behind it")
        self.lpips = lpips if self.config.lpips else None
        self.vision = vision if self.config.vf else None

    def forward(
        self, x_B3HW: Tensor, reconstruction_B3HW: Tensor, mu_Bdhw: Tensor, logvar_Bdhw: Tensor
    ) -> tuple[Tensor, Terms]:
        total, _, terms = self.generator(x_B3HW, reconstruction_B3HW, mu_Bdhw, logvar_Bdhw)
        return total, terms

    def generator(
        self,
        x_B3HW: Tensor,
        reconstruction_B3HW: Tensor,
        mu_Bdhw: Tensor,
        logvar_Bdhw: Tensor,
        *,
        projected: Tensor | None = None,
        features: Tensor | None = None,
        discriminator: nn.Module | None = None,
        layers: tuple[nn.Parameter, nn.Parameter] | None = None,
        mean_over_workers: Mean | None = None,
    ) -> tuple[Tensor, Tensor, Terms]:
        """(total, judged, terms) for the autoencoder; `judged` is the total without the adversarial term, detached.

        Args:
            projected: projected latents (B, C, h, w) for the alignment, and
            features: the vision network's on the same grid; both may be left out while the encoder is frozen.
            discriminator: None until the adversarial loss starts. The bare module, not its wrapper for several
                workers: its weights are constants here and get no gradients.
            layers: the model's last encoder and decoder layer, for adaptive weights.
            mean_over_workers: a tensor's mean over all workers, so that adaptive weights are the same on all of them.
        """
        if x_B3HW.shape != reconstruction_B3HW.shape:
            raise ValueError(f"images {tuple(x_B3HW.shape)} but reconstructions {tuple(reconstruction_B3HW.shape)}")
        config, pixel_values, latent_values = self.config, x_B3HW[0].numel(), mu_Bdhw[0].numel()
        summed = config.reduction == "sum_per_sample"
        encoder, decoder = layers or (None, None)
        nll, terms = self._reconstruction(x_B3HW, reconstruction_B3HW)
        with torch.no_grad() if config.encoder_frozen else nullcontext():
            divergence = kl(mu_Bdhw, logvar_Bdhw)
            aligned, parts = self._alignment(projected, features, encoder)
        adversarial = self._adversarial(discriminator, reconstruction_B3HW, decoder)
        trained = adversarial if config.encoder_frozen else [*aligned, *adversarial]
        weighted, weights = weigh(nll, trained, pixel_values if summed else 1.0, mean_over_workers)

        judged = nll
        if not config.encoder_frozen:
            per_latent_value = config.kl * (latent_values / pixel_values if summed else 1.0)
            judged = nll + per_latent_value * divergence
            terms["kl_weight"] = nll.new_full((), per_latent_value)
            terms["kl_weight_sum"] = terms["kl_weight"] * (pixel_values / latent_values)
        for term in aligned:
            judged = judged + weighted.get(term.name, 0.0)
        total = judged
        for term in adversarial:
            total = total + weighted[term.name]
        terms |= {"kl": divergence, "kl_sum": divergence * latent_values, **parts}
        terms |= {term.name: term.loss for term in (*aligned, *adversarial)}
        terms |= weights | {
            f"{key}_sum": value * pixel_values for key, value in weights.items() if key.endswith("_weight")
        }
        terms["total"] = total
        return total, judged.detach(), {key: term.detach() for key, term in terms.items()}

    def discriminator(
        self, discriminator: nn.Module, x_B3HW: Tensor, reconstruction_B3HW: Tensor
    ) -> tuple[Tensor, Terms]:
        """(loss, terms) for the discriminator; nothing flows into the reconstruction. Any wrapper will do here.

        Terms: "gan_discriminator" (the loss), "logits_real" and "logits_fake" (their means).
        """
        real, fake = discriminator(x_B3HW.detach()), discriminator(reconstruction_B3HW.detach())
        loss = hinge_loss(real, fake)
        means = {"logits_real": real.detach().float().mean(), "logits_fake": fake.detach().float().mean()}
        return loss, {"gan_discriminator": loss.detach(), **means}

    def _reconstruction(self, x_B3HW: Tensor, reconstruction_B3HW: Tensor) -> tuple[Tensor, Terms]:
        """What VA-VAE calls nll (L1 + LPIPS), weighted, and its terms."""
        pixel = l1(x_B3HW, reconstruction_B3HW)
        nll, terms = self.config.l1 * pixel, {"l1": pixel}
        if self.lpips is not None:
            distance = self.lpips(x_B3HW, reconstruction_B3HW).mean()
            nll = nll + self.config.lpips * distance
            terms[self.lpips.term("lpips")] = distance
        return nll, terms | {f"{name}_sum": mean * x_B3HW[0].numel() for name, mean in terms.items()}

    def _alignment(
        self, projected: Tensor | None, features: Tensor | None, layer: nn.Parameter | None
    ) -> tuple[list[Balanced], Terms]:
        config = self.config.vf
        if config is None or self.vision is None:
            return [], {}
        if projected is None or features is None:
            if self.config.encoder_frozen:
                return [], {}
            raise ValueError("the objective has a weight for vf and needs projected latents and features")
        name = self.vision.term("vf")
        loss, parts = alignment(projected, features, config.distance_margin, config.cosine_margin)
        return [Balanced(name, loss, config, layer)], {f"{name}_{part}": value for part, value in parts.items()}

    def _adversarial(
        self, discriminator: nn.Module | None, reconstruction_B3HW: Tensor, layer: nn.Parameter | None
    ) -> list[Balanced]:
        if discriminator is None:
            return []
        if self.config.gan is None:
            raise ValueError("a discriminator was given, but the objective has no weight for gan")
        constants = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
        logits = functional_call(discriminator, constants, (reconstruction_B3HW,))
        return [Balanced("gan", generator_loss(logits), self.config.gan, layer)]
