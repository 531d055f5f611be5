"""Generators of latents: LightningDiT, its objective and its sampling."""

from transvae.generation.config import DiTConfig, dit_config
from transvae.generation.folder import LatentSpace
from transvae.generation.lightning_dit import LightningDiT

__all__ = ["DiTConfig", "LatentSpace", "LightningDiT", "create_dit", "dit_config"]


def create_dit(
    name: str, latent_dim: int, latent_size: int, *, classes: int = 1000, qk_norm: bool = False
) -> LightningDiT:
    """A LightningDiT by name, e.g. `lightning_dit-B/1`, for latents (latent_dim, latent_size, latent_size).

    Raises ValueError for an unknown name or parts that do not fit.
    """
    return LightningDiT(dit_config(name, latent_dim, latent_size, classes=classes, qk_norm=qk_norm))
