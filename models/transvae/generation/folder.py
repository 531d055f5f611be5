"""A generator on disk: config.json, model.safetensors and README.md, as of an autoencoder (`transvae/storage.py`).

config.json holds `family` (`lightning_dit`), `network` (`DiTConfig`) and `latents` (`LatentSpace`, or null for a
network that was trained on none): the normalisation of latents travels with the network that needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from transvae import storage
from transvae.generation.config import DiTConfig

KIND = "lightning_dit"


@dataclass(frozen=True)
class LatentSpace:
    """The latents that a generator was trained on: those of one tokenizer and one data set, each channel normalised.

    Raises ValueError where mean and deviation are not one per channel, or a deviation is not positive.
    """

    fingerprint: str
    """Of the stored latents."""
    data: str
    """Fingerprint of the images that they were made of."""
    resolution: int
    """Of those images, in pixels."""
    content: str
    """`sample` or `mean` of the posterior."""
    tokenizer: Mapping[str, str]
    """`name`, `weights_sha256` and `config` (a hash) of what made them, and decodes them."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Of every channel over the training split: a network sees (z - mean) / std."""

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean or not all(deviation > 0 for deviation in self.std):
            raise ValueError(f"latents: {len(self.mean)} means and the deviations {list(self.std)} normalise nothing")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LatentSpace:
        """Raises ValueError for missing or unknown keys."""
        try:
            return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"config.json: latents: {error}") from None


def save(folder: Path, config: DiTConfig, latents: LatentSpace | None, state: Mapping[str, Tensor]) -> None:
    """Writes the three files, making the folder if it is missing."""
    values = {"family": KIND, "network": config.to_dict(), "latents": asdict(latents) if latents else None}
    storage.write(folder, values, state, _card(config, latents, sum(tensor.numel() for tensor in state.values())))


def load_config(folder: Path) -> tuple[DiTConfig, LatentSpace | None]:
    """What `save` wrote into config.json.

    Raises FileNotFoundError for a folder without one and ValueError for one that is not valid, or of another model.
    """
    values = storage.load_values(folder)
    if values.get("family") != KIND or "network" not in values:
        raise ValueError(f"{folder / storage.CONFIG} is of no generator: its `family` is not {KIND}")
    try:
        config = DiTConfig(**values["network"])
        latents = LatentSpace.from_dict(values["latents"]) if values.get("latents") else None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / storage.CONFIG}: {error}") from None
    if latents and len(latents.mean) != config.latent_dim:
        raise ValueError(
            f"{folder / storage.CONFIG}: statistics of {len(latents.mean)} channels, the network has "
            f"{config.latent_dim}"
        )
    return config, latents


def _card(config: DiTConfig, latents: LatentSpace | None, parameters: int) -> str:
    trained = f"trained on latents of {latents.tokenizer['name']}" if latents else "not trained"
    return f"""---
library_name: transvae
tags: [generator, {KIND}]
---
# LightningDiT

A class-conditional generator of latents with {parameters:,} parameters, {trained}: {config.latent_dim} channels,
{config.latent_size} x {config.latent_size} positions in patches of {config.patch}, {config.classes} classes.

```python
from transvae.generation import LightningDiT

network = LightningDiT.from_pretrained("this-folder")
v = network(x, t, y)  # velocity at normalised latents x (B, d, h, w), times t in [0, 1] and labels y
```
"""
