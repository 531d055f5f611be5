"""The objective in a study file: which losses, with what weights, from which frozen networks.

Contested values are keys; each names its source.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from transvae_platform.study.rate_rules import Rate, Steps
from transvae_platform.study.section import Section

Weight = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Margin = Annotated[float, Field(ge=0, le=2)]  # cosines differ by at most 2
Origin = Literal["pretrained", "random"]
"""Of a frozen network's weights; with `random` its metrics carry another name, because they mean nothing elsewhere."""


class Lpips(Section):
    """Perceptual distance: features of VGG16 (Zhang et al. 2018; paper, section 3.1)."""

    weight: Positive = 1.0
    """Beside an L1 of 1.0 (paper, section 3.1), inside the sum over pixels as in VA-VAE."""
    network: Origin = "pretrained"
    """VGG16's weights: torchvision's, or `random` for a test of the line."""


class Vf(Section):
    """Alignment of the latent with a vision foundation model (VA-VAE; paper, appendix D)."""

    weight: Positive = 0.1
    """Paper, appendix D, and VA-VAE's ablations."""
    adaptive: bool = True
    """Scale by the ratio of gradients at the encoder's last layer (VA-VAE; the paper: dynamic loss re-weighting)."""
    largest: Positive = 1e8
    """Bound of that ratio (VA-VAE)."""
    distance_margin: Margin = 0.25
    """Of the marginal distance-matrix term (VA-VAE; the paper takes the same)."""
    cosine_margin: Margin = 0.5
    """Of the marginal cosine term (VA-VAE; the paper takes the same)."""
    features: str = "vit_large_patch14_dinov2.lvd142m"
    """The frozen network, by its name in timm (VA-VAE: DINOv2 ViT-L/14)."""
    match: Literal["latents", "features", "image"] = "latents"
    """Where latent and feature maps differ in size, f8 (paper, appendix F): pool the latents (what it uses), upsample
    the features, or show the network a larger image."""
    network: Origin = "pretrained"
    """The feature network's weights, or `random` for a test of the line."""


class Gan(Section):
    """A PatchGAN discriminator with hinge loss (VA-VAE)."""

    weight: Positive = 0.1
    """Paper, appendix D (its README: 0.05; VA-VAE: 0.5)."""
    adaptive: bool = True
    """Scale by the ratio of gradients at the decoder's last layer (VA-VAE)."""
    largest: Positive = 1e4
    """Bound of that ratio, in the units of the reduction (VA-VAE)."""
    start: Steps | None = None
    """Step at which the discriminator begins to learn: by default that of `decoder_stage`, 0 without one. VA-VAE's 5001
    counts the updates of both optimisers, which is 2501 of these."""
    alone: Steps = 0
    """Steps that it learns for before the decoder is told (VA-VAE: none)."""
    layers: Annotated[int, Field(ge=1, le=6)] = 3
    """Of the PatchGAN (VA-VAE: 3, which sees 70 x 70 pixels; small images need fewer)."""
    learning_rate: Rate | None = None
    """Of the discriminator's Adam; by default the recipe's, without warm-up (VA-VAE)."""


class Losses(Section):
    """Weights of the training objective; the reduction makes them mean something (see `transvae.losses`)."""

    l1: Weight = 1.0
    """Weight of mean |x - reconstruction| over C, H, W and the batch (paper, section 3.1: 1.0)."""
    kl: Weight = 1e-8
    """Weight of KL(posterior || N(0, I)) (paper, section 3.1: 1e-8 under `sum_per_sample`)."""
    reduction: Literal["sum_per_sample", "mean"] = "sum_per_sample"
    """The convention in which the weights are written: VA-VAE's sums per sample, or means per element."""
    lpips: Lpips | None = None
    """Perceptual distance (VGG16); none without this section."""
    vf: Vf | None = None
    """Alignment with a vision foundation model; none without this section."""
    gan: Gan | None = None
    """A discriminator; none without this section."""
