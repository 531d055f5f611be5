"""A model of this project as a tokenizer."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from torch import Tensor

from transvae import storage
from transvae.autoencoder import Autoencoder
from transvae.config import AutoencoderConfig
from transvae.registry import model_config
from transvae.tokenizers.contract import Facts, Posterior, Tokenizer, TokenizerError
from transvae.tokenizers.files import config_hash, file_sha256


class OurTokenizer(Tokenizer):
    """What `save_pretrained` wrote. Its generators normalise latents by channel statistics."""

    @classmethod
    def from_folder(cls, folder: Path) -> "OurTokenizer":
        """Raises TokenizerError for a folder that holds no usable model."""
        try:
            config = storage.load_config(folder)
            network = Autoencoder.from_pretrained(folder)
        except (OSError, ValueError, SafetensorError) as error:
            raise TokenizerError(f"{folder} holds no usable model: {error}") from None
        facts = Facts(
            kind="transvae",
            title=_title(config),
            compression=config.compression,
            channels=config.latent_dim,
            deterministic=False,
            weights_sha256=file_sha256(folder / storage.WEIGHTS),
            config=config_hash(config.to_dict()),
            trained_at=config.resolution,
        )
        return cls(facts, network)

    def posterior(self, x_B3HW: Tensor) -> Posterior:
        return cast(Autoencoder, self.network).posterior(x_B3HW)

    @property
    def has_pixels(self) -> bool:
        return cast(Autoencoder, self.network).config.has_pixels

    def decode(self, z_Bdhw: Tensor) -> Tensor:
        network = cast(Autoencoder, self.network)
        if not network.config.has_pixels:
            raise TokenizerError(
                f"{network.config.name} has no pixels: its latents can be stored and generated, not reconstructed or "
                "shown; take the ps-vae that was trained from it"
            )
        return network.decode(z_Bdhw)


def _title(config: AutoencoderConfig) -> str:
    """Its name, and what of it is not that name's: `transvae-T/f16d32 (position=learned)`; the resolution aside."""
    try:
        registered = model_config(config.name, resolution=config.resolution)
    except ValueError:  # a name of somebody's own
        return config.name
    before = set(_leaves(asdict(registered)))
    changed = sorted({f"{key}={value}" for key, value in _leaves(asdict(config)) if (key, value) not in before})
    if config == registered:
        return config.name
    return f"{config.name} ({', '.join(changed) or 'changed'})"


def _leaves(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value)
        else:
            yield key, str(value)
