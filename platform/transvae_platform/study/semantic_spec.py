"""The recipe of autoencoders on a vision network (S-VAE, PS-VAE, RAE): their objective and their two stages.

Defaults are the PS-VAE guide's; where it is open or contradicts itself the docstring says what was chosen, and from
where. What belongs to the network itself (which one, how it sees an image) are switches of the model: `network`,
`resize`, `normalise` (`transvae.registry.OVERRIDES`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from transvae_platform.study.losses_spec import Lpips, Origin, Weight
from transvae_platform.study.rate_rules import Rate, Steps
from transvae_platform.study.section import MOST, Section

Reduction = Literal["mean", "sum_channels", "sum_per_sample"]
FAMILIES = ("s-vae", "ps-vae", "rae")
"""Those that this section is for."""
DECODE_FEATURES, DECODE_PIXELS = ("s-vae", "ps-vae"), ("ps-vae", "rae")
"""Those of them that read the weights of features, and of pixels."""


class PixelStage(Section):
    """Stage 2 of PS-VAE: the vision network is trained, too, its frozen twin is the target, pixels are decoded.

    It begins from the averaged weights of stage 1, with fresh moments (that it begins from stage 1 is implied by the
    guide, not said).
    """

    steps: Annotated[int, Field(ge=1, le=MOST)]
    """The last this many of the recipe's steps (the guide names no lengths)."""
    learning_rate: Rate | None = None
    """In this stage; by default the recipe's."""
    warmup_steps: Steps = 0
    """Linear warm-up of this stage (assumption: the guide names none)."""


class Semantic(Section):
    """What S-VAE, PS-VAE and RAE minimise instead of `losses`; RAE the terms of pixels alone, without KL."""

    network: Origin = "pretrained"
    """Weights of the vision network that the model stands on and of its frozen twin; with `random` every term that is
    compared with it bears another name."""
    semantic: Weight = 1.0
    """Of the squared error between decoded and frozen features (guide)."""
    semantic_reduction: Reduction = "mean"
    """Of that error: the mean over all values (the guide's code)."""
    cosine: Weight = 0.0
    """Of 1 - cosine of these features (the guide has none; that the paper has one is hearsay)."""
    kl: Weight = 1e-4
    """Of the KL divergence (guide)."""
    kl_reduction: Reduction = "mean"
    """The guide's code and its companion's take the mean over all values; its equation is `sum_channels`."""
    l1: Weight = 0.5
    """Of the mean absolute error of pixels in [-1, 1] (guide: 1.0 x (0.5 L1 + 0.5 MSE))."""
    mse: Weight = 0.5
    """Of their mean squared error (guide)."""
    lpips: Lpips | None = Lpips(weight=0.1)
    """Perceptual distance (guide: 0.1, whose formula squares its weights: the published LPIPS is taken); null: none."""
    pixel_stage: PixelStage | None = None
    """Of PS-VAE. Without it all steps train everything, from the vision network's own weights on; S-VAE has stage 1
    only, RAE stage 2 only."""

    def contradictions(self, family: str) -> list[str]:
        """What cannot work together for one of FAMILIES: key, reason and way out."""
        found = []
        if family in DECODE_FEATURES and not (self.semantic or self.cosine):
            found.append(
                "semantic: neither semantic nor cosine has a weight, nothing would teach the latent - give one"
            )
        if family in DECODE_PIXELS and not (self.l1 or self.mse or self.lpips):
            found.append("semantic: neither l1, mse nor lpips has a weight, nothing would teach pixels - give one")
        return found
