"""What the workers of a trial train together: the autoencoder and, with alignment, the projection of its latent.

Legend: B batch, H, W pixels, d latent channels, h, w latent map, C feature channels.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from transvae.autoencoder import Autoencoder


class Passed(NamedTuple):
    """What a forward pass leaves for the losses."""

    reconstruction: Tensor
    """(B, 3, H, W)"""
    mu: Tensor
    logvar: Tensor
    """Both (B, d, h, w) in fp32."""
    projected: Tensor | None
    """(B, C, h, w): the sampled latent in the feature network's channels; None without alignment."""


class Network(nn.Module):
    """One module, because the gradients of one module are averaged over workers (`World.wrap`)."""

    def __init__(self, model: Autoencoder, projection: nn.Module | None) -> None:
        super().__init__()
        self.model, self.projection = model, projection

    def forward(self, x_B3HW: Tensor, noise_Bdhw: Tensor) -> Passed:
        posterior = self.model.posterior(x_B3HW)
        z_Bdhw = posterior.sample(noise_Bdhw)
        projected = self.projection(z_Bdhw) if self.projection is not None else None
        return Passed(self.model.decode(z_Bdhw), posterior.mean, posterior.logvar, projected)

    def freeze_encoder(self, frozen: bool) -> None:
        """Whether only the decoder learns. The projection has no other use than to train the encoder."""
        self.model.encoder.requires_grad_(not frozen)
        if self.projection is not None:
            self.projection.requires_grad_(not frozen)
