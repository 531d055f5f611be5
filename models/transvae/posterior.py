"""The posterior of an image: a diagonal Gaussian over its latent.

Legend: B batch, d latent channels, h, w latent map.
"""

import torch
from torch import Tensor

LOGVAR_RANGE = (-30.0, 20.0)  # CompVis latent-diffusion, DiagonalGaussianDistribution


class DiagonalGaussian:
    """Built from moments (B, 2d, h, w): the first d channels are the mean, the rest the log-variance.

    `mean`, `logvar` (clamped to [-30, 20]) and `std` are fp32 of shape (B, d, h, w), whatever the model's precision;
    samples have the moments' dtype, as the decoder expects.
    """

    def __init__(self, moments_B2dhw: Tensor) -> None:
        self.dtype = moments_B2dhw.dtype
        mean, logvar = moments_B2dhw.float().chunk(2, dim=1)
        self.mean = mean
        self.logvar = logvar.clamp(*LOGVAR_RANGE)

    @property
    def std(self) -> Tensor:
        return torch.exp(0.5 * self.logvar)

    def sample(self, noise: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """mean + std x noise. `noise` is standard normal of the mean's shape; drawn with `generator` if not given.

        Raises ValueError for noise of another shape.
        """
        if noise is None:
            # a generator of the CPU serves latents on any device, as in diffusers
            device = self.mean.device if generator is None else generator.device
            noise = torch.randn(self.mean.shape, generator=generator, device=device)
        if noise.shape != self.mean.shape:
            raise ValueError(f"noise has shape {tuple(noise.shape)}, the latent {tuple(self.mean.shape)}")
        return (self.mean + self.std * noise.to(self.mean)).to(self.dtype)

    def mode(self) -> Tensor:
        """The mean, in the moments' dtype."""
        return self.mean.to(self.dtype)

    def kl(self) -> Tensor:
        """KL divergence to the standard normal, summed over each latent: (B,), in nats."""
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1.0 - self.logvar).sum(dim=(1, 2, 3))
