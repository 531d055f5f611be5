"""The contract of image tokenizers: images in [-1, 1] to a posterior, latents to images, and facts about both.

Reconstruction never scales or shifts latents. Who trains a generator on them does, with `scale` and `shift`
(z = (z - shift) * scale) or with statistics of its own: one of the two, recorded.

Legend: B batch, H, W pixels, f compression, d latent channels, h = H/f, w = W/f.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from transvae.posterior import DiagonalGaussian


class TokenizerError(Exception):
    """A tokenizer cannot be opened, or cannot take these images; the message says the way out."""


@dataclass(frozen=True)
class Point:
    """The posterior of a deterministic encoder: one latent (B, d, h, w), whatever is asked for."""

    mean: Tensor

    def mode(self) -> Tensor:
        """The latent."""
        return self.mean

    def sample(self, noise: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """The latent, too: there is nothing to draw."""
        return self.mean


Posterior = DiagonalGaussian | Point


@dataclass(frozen=True)
class Facts:
    """What there is to know of a tokenizer before images meet it."""

    kind: str
    """The class of its files: `transvae`, `AutoencoderKL`, `VA-VAE`, ..."""
    title: str
    """What tables call networks of this format, whatever their weights are: `TransVAE-T`, `SD3.5-VAE`, ..."""
    compression: int
    channels: int
    deterministic: bool
    weights_sha256: str
    config: str
    """A hash of its configuration."""
    scale: float | None = None
    shift: float | None = None
    """What its own generators apply to latents; None: they take statistics of their channels instead."""
    only_side: int | None = None
    """The one height and width that it takes, where it is bound to it."""

    def refuse(self, height: int, width: int) -> None:
        """Raises TokenizerError for images of a size that it does not take."""
        if self.only_side is not None and (height, width) != (self.only_side, self.only_side):
            raise TokenizerError(
                f"{self.kind} gives images of {self.only_side} x {self.only_side} pixels only, not {height} x {width}; "
                f"ingest the images at --resolution {self.only_side}"
            )
        if height % self.compression or width % self.compression:
            raise TokenizerError(
                f"{self.kind} takes sides that are multiples of its compression {self.compression}, "
                f"not {height} x {width}"
            )


class Tokenizer(nn.Module, ABC):
    """posterior(x) and decode(z) for images (B, 3, H, W) in [-1, 1]; outputs are not clamped. Never trained."""

    def __init__(self, facts: Facts, network: nn.Module) -> None:
        super().__init__()
        self.facts = facts
        self.network = network
        self.requires_grad_(False)
        self.eval()

    @property
    def parameters_count(self) -> int:
        """How many numbers its weights have."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    @property
    def has_pixels(self) -> bool:
        """Whether its latents can be decoded to images."""
        return True

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.network.parameters()).device

    @abstractmethod
    def posterior(self, x_B3HW: Tensor) -> Posterior:
        """Of the latent, (B, d, h, w) float32."""

    @abstractmethod
    def decode(self, z_Bdhw: Tensor) -> Tensor:
        """Images (B, 3, H, W) in about [-1, 1]."""
