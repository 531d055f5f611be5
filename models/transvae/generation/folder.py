"""A generator on disk: config.json, model.safetensors and README.md, as of an autoencoder (`transvae/storage.py`).

config.json holds `family` (`lightning_dit` or `text_dit`), `network` (`DiTConfig`, `TextDiTConfig`) and `latents`
(`LatentSpace`, or null for a network that was trained on none): the normalisation of latents travels with the network
that needs it. Of a `text_dit` it holds `conditions`, too (`TextConditions`, or null).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from transvae import storage
from transvae.generation.config import DiTConfig
from transvae.generation.noise_schedule import NoiseSchedule
from transvae.generation.text_config import TextDiTConfig

KIND, TEXT_KIND = "lightning_dit", "text_dit"
OBJECTIVES = ("noise", "velocity")


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


@dataclass(frozen=True)
class TextConditions:
    """What a text-to-image network was trained with, without which it means nothing.

    Raises ValueError for another objective, or noise without its schedule.
    """

    name: str
    """Of the text encoder, as people call it."""
    encoder: Mapping[str, str | int]
    """What decides its answers (`TextEncoder.identity`)."""
    objective: str
    """One of OBJECTIVES: what the network answers."""
    schedule: NoiseSchedule | None
    """Of noise."""

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES or (self.objective == "noise") != (self.schedule is not None):
            raise ValueError(f"conditions: {self.objective} with the schedule {self.schedule} is no objective")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TextConditions:
        """Raises ValueError for missing or unknown keys."""
        try:
            schedule = NoiseSchedule(**values["schedule"]) if values["schedule"] else None
            return cls(**{**values, "schedule": schedule})
        except (KeyError, TypeError) as error:
            raise ValueError(f"config.json: conditions: {error}") from None


def save(folder: Path, config: DiTConfig, latents: LatentSpace | None, state: Mapping[str, Tensor]) -> None:
    """Writes the three files, making the folder if it is missing."""
    values = {"family": KIND, "network": config.to_dict(), "latents": asdict(latents) if latents else None}
    storage.write(folder, values, state, _card(config, latents, sum(tensor.numel() for tensor in state.values())))


def save_text(
    folder: Path, config: TextDiTConfig, latents: LatentSpace | None, conditions: TextConditions | None,
    state: Mapping[str, Tensor],
) -> None:  # fmt: skip
    """The same for a text-to-image network."""
    values = {
        "family": TEXT_KIND, "network": config.to_dict(), "latents": asdict(latents) if latents else None,
        "conditions": asdict(conditions) if conditions else None,
    }  # fmt: skip
    parameters = sum(tensor.numel() for tensor in state.values())
    storage.write(folder, values, state, _text_card(config, latents, conditions, parameters))


def load_config(folder: Path) -> tuple[DiTConfig, LatentSpace | None]:
    """What `save` wrote into config.json.

    Raises FileNotFoundError for a folder without one and ValueError for one that is not valid, or of another model.
    """
    values = _values(folder, KIND)
    try:
        config = DiTConfig(**values["network"])
        return config, _latents(values, config.latent_dim)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / storage.CONFIG}: {error}") from None


def load_text_config(folder: Path) -> tuple[TextDiTConfig, LatentSpace | None, TextConditions | None]:
    """What `save_text` wrote into config.json; errors as `load_config`."""
    values = _values(folder, TEXT_KIND)
    try:
        config = TextDiTConfig(**values["network"])
        conditions = TextConditions.from_dict(values["conditions"]) if values.get("conditions") else None
        return config, _latents(values, config.latent_dim), conditions
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / storage.CONFIG}: {error}") from None


def kind_of(folder: Path) -> str:
    """The `family` that config.json names; errors as `load_config`."""
    return str(storage.load_values(folder).get("family"))


def _values(folder: Path, kind: str) -> dict[str, Any]:
    values: dict[str, Any] = storage.load_values(folder)
    if values.get("family") != kind or "network" not in values:
        raise ValueError(f"{folder / storage.CONFIG} is of no generator: its `family` is not {kind}")
    return values


def _latents(values: Mapping[str, Any], channels: int) -> LatentSpace | None:
    latents = LatentSpace.from_dict(values["latents"]) if values.get("latents") else None
    if latents and len(latents.mean) != channels:
        raise ValueError(f"statistics of {len(latents.mean)} channels, the network has {channels}")
    return latents


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


def _text_card(
    config: TextDiTConfig, latents: LatentSpace | None, conditions: TextConditions | None, parameters: int
) -> str:
    trained = f"trained on latents of {latents.tokenizer['name']}" if latents else "not trained"
    read = f"captions by {conditions.name}, answering {conditions.objective}" if conditions else "captions"
    return f"""---
library_name: transvae
tags: [generator, {TEXT_KIND}]
---
# Text-to-image DiT

A generator of latents with {parameters:,} parameters, {trained}: {config.latent_dim} channels, {config.latent_size} x
{config.latent_size} positions in patches of {config.patch}; it reads {read} ({config.text_dim} channels).

```python
from transvae.generation import TextDiT
from transvae.generation.text import open_text_encoder

network = TextDiT.from_pretrained("this-folder")
text = open_text_encoder(network.conditions.name).encode(["a rocket on its pad"])
answer = network(x, t, text)  # noise or velocity at normalised latents x (B, d, h, w) and times t (B,)
```
"""
