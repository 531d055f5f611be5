"""A model of this project where code expects an autoencoder of diffusers: `encode(x).latent_dist`, `decode(z).sample`.

diffusers itself is not needed. What pipelines read of an AutoencoderKL's `config` is here: channels, scaling and shift
(z = (z - shift) * scaling before a generator, undone after it), and as many `block_out_channels` as the compression
has halvings, from which pipelines compute it.

Legend: B batch, H, W pixels, f compression, d latent channels, h = H/f, w = W/f.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from transvae.autoencoder import Autoencoder
from transvae.posterior import DiagonalGaussian


@dataclass(frozen=True)
class Config:
    """What users of an AutoencoderKL read of its configuration."""

    latent_channels: int
    sample_size: int
    block_out_channels: tuple[int, ...]
    scaling_factor: float
    shift_factor: float
    in_channels: int = 3
    out_channels: int = 3
    force_upcast: bool = False
    latents_mean: None = None
    latents_std: None = None


@dataclass(frozen=True)
class Encoded:
    """Of `encode`: `latent_dist` has `sample(generator)`, `mode()`, `mean`, `std`, `logvar` and `kl()`."""

    latent_dist: "LatentDist"

    def __getitem__(self, index: int) -> "LatentDist":
        return (self.latent_dist,)[index]


@dataclass(frozen=True)
class Decoded:
    """Of `decode`: images (B, 3, H, W), not clamped."""

    sample: Tensor

    def __getitem__(self, index: int) -> Tensor:
        return (self.sample,)[index]


@dataclass(frozen=True)
class LatentDist:
    """The posterior as diffusers' DiagonalGaussianDistribution."""

    posterior: DiagonalGaussian

    @property
    def mean(self) -> Tensor:
        return self.posterior.mean

    @property
    def logvar(self) -> Tensor:
        return self.posterior.logvar

    @property
    def std(self) -> Tensor:
        return self.posterior.std

    def mode(self) -> Tensor:
        """The mean, in the model's precision."""
        return self.posterior.mode()

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """A sample, (B, d, h, w)."""
        return self.posterior.sample(generator=generator)

    def kl(self) -> Tensor:
        """KL divergence to the standard normal, (B,) in nats."""
        return self.posterior.kl()


class DiffusersAutoencoder(nn.Module):
    """Wraps an Autoencoder; images in [-1, 1] as in diffusers."""

    def __init__(self, model: Autoencoder, scaling_factor: float = 1.0, shift_factor: float = 0.0) -> None:
        super().__init__()
        self.model = model
        halvings = model.config.compression.bit_length() - 1
        self.config = Config(
            latent_channels=model.config.latent_dim,
            sample_size=model.config.resolution,
            block_out_channels=(model.config.latent_dim,) * (halvings + 1),
            scaling_factor=scaling_factor,
            shift_factor=shift_factor,
        )

    @classmethod
    def from_pretrained(cls, source: str | Path, scaling_factor: float = 1.0, shift_factor: float = 0.0) -> Self:
        """What `save_pretrained` wrote, in eval mode; scaling and shift of its latents are the user's to measure.

        Errors are those of `Autoencoder.from_pretrained`.
        """
        return cls(Autoencoder.from_pretrained(source), scaling_factor, shift_factor).eval()

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def device(self) -> torch.device:
        return self.model.device

    def encode(self, x_B3HW: Tensor, return_dict: bool = True) -> Encoded | tuple[LatentDist]:
        """The posterior, without scaling. Raises ValueError for sides that f does not divide."""
        latent_dist = LatentDist(self.model.posterior(x_B3HW))
        return Encoded(latent_dist) if return_dict else (latent_dist,)

    def decode(
        self, z_Bdhw: Tensor, return_dict: bool = True, generator: torch.Generator | None = None
    ) -> Decoded | tuple[Tensor]:
        """Images of latents without scaling. `generator` is there for diffusers' signature: nothing is drawn."""
        image = self.model.decode(z_Bdhw)
        return Decoded(image) if return_dict else (image,)

    def forward(
        self, x_B3HW: Tensor, sample_posterior: bool = False, return_dict: bool = True
    ) -> Decoded | tuple[Tensor]:
        """Encode and decode, from the mean unless a sample is asked for."""
        posterior = self.encode(x_B3HW)[0]
        return self.decode(posterior.sample() if sample_posterior else posterior.mode(), return_dict)
