"""The class interface of the TransVAE README."""

from typing import Self

import torch

from transvae.autoencoder import Autoencoder
from transvae.config import AutoencoderConfig
from transvae.registry import model_config
from transvae.sizes import LADDERS, SIZES, WORDS

_VARIANTS = {**{word: size for size, word in WORDS.items()}, **{size: size for size in SIZES}}
VARIANTS = {**_VARIANTS, "giant_printed": "giant_printed"}


class TransVAE(Autoencoder):
    """An autoencoder of the TransVAE family at a size of the paper's table 3.

    `variant` is tiny, base, large, huge, giant or giant_printed, or the letter T, B, L, H, G. Raises ValueError for a
    combination that table 3 does not have, listing those it has.
    """

    def __init__(
        self,
        variant: str = "large",
        compression_ratio: int = 16,
        latent_dim: int = 32,
        input_resolution: int = 256,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if variant not in VARIANTS:
            raise ValueError(f"variant={variant!r} does not exist; the variants are {', '.join(VARIANTS)}")
        ladders = [ladder for ladder in LADDERS if ladder.prefix == "transvae"]
        ladder = next((entry for entry in ladders if entry.compression == compression_ratio), None)
        if ladder is None:
            ratios = ", ".join(str(entry.compression) for entry in ladders)
            raise ValueError(f"compression_ratio={compression_ratio} does not exist; the ratios are {ratios}")
        config = model_config(ladder.name(VARIANTS[variant]), latent_dim=latent_dim, resolution=input_resolution)
        super().__init__(config, device, dtype)

    @classmethod
    def from_config(
        cls,
        config: AutoencoderConfig,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """A TransVAE of any configuration of the family. Raises ValueError for another family."""
        if config.family != "transvae":
            raise ValueError(f"{config.name} is of the family {config.family}; load it with Autoencoder, not TransVAE")
        model = cls.__new__(cls)
        Autoencoder.__init__(model, config, device, dtype)
        return model
