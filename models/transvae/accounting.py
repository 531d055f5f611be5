"""What a model costs: parameters and FLOPs, counted on the meta device without any memory.

Convention: one multiply-add is 2 FLOPs; matrix products and convolutions count, norms and activations do not; the
backward pass is twice the forward. Counted by torch's FlopCounterMode, on "meta" because on CPU it counts 0 for SDPA.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from transvae.autoencoder import Autoencoder
from transvae.config import AutoencoderConfig
from transvae.families.representation import Trunk
from transvae.registry import model_config
from transvae.repeated import equal_blocks_once

BACKWARD_OVER_FORWARD = 2  # gradients for inputs and for weights, one product each


@dataclass(frozen=True)
class ModelCost:
    """Costs per image at one resolution (height = width, in pixels)."""

    name: str
    resolution: int
    encoder_parameters: int
    decoder_parameters: int
    encoder_forward_flops: int
    decoder_forward_flops: int
    frozen_forward_flops: int = 0
    """Of the encoder's, what has no backward pass: the network that S-VAE and RAE keep frozen."""

    @property
    def parameters(self) -> int:
        return self.encoder_parameters + self.decoder_parameters

    @property
    def forward_flops(self) -> int:
        return self.encoder_forward_flops + self.decoder_forward_flops

    @property
    def training_flops(self) -> int:
        """Forward and backward, without loss networks and without recomputation."""
        return (1 + BACKWARD_OVER_FORWARD) * self.forward_flops - BACKWARD_OVER_FORWARD * self.frozen_forward_flops


def count_parameters(config: AutoencoderConfig) -> tuple[int, int]:
    """Parameters of the encoder and of the decoder, without a forward pass."""
    return _parameters(Autoencoder(config, device="meta"))


def _parameters(model: Autoencoder) -> tuple[int, int]:
    encoder, decoder = (sum(p.numel() for p in side.parameters()) for side in (model.encoder, model.decoder))
    return encoder, decoder


@lru_cache(maxsize=1024)
def count_model(config_or_name: AutoencoderConfig | str, resolution: int | None = None) -> ModelCost:
    """Counts a model at `resolution` (its training resolution by default).

    Raises ValueError for an unknown name or a resolution that the compression does not divide.
    """
    config = model_config(config_or_name) if isinstance(config_or_name, str) else config_or_name
    size = config.resolution if resolution is None else resolution
    replace(config, resolution=size)  # refuses a resolution that does not fit, in the configuration's own words
    model = Autoencoder(config, device="meta").eval()
    latent = size // config.compression
    image = torch.empty(1, 3, size, size, device="meta")
    code = torch.empty(1, config.latent_dim, latent, latent, device="meta")
    encoder_parameters, decoder_parameters = _parameters(model)
    return ModelCost(
        name=config.name,
        resolution=size,
        encoder_parameters=encoder_parameters,
        decoder_parameters=decoder_parameters,
        encoder_forward_flops=_flops(model, model.posterior, image),
        decoder_forward_flops=_flops(model, model.answers, code),
        frozen_forward_flops=sum(_flops(trunk, trunk, image) for trunk in _frozen_trunks(model)),
    )


@lru_cache(maxsize=1024)
def semantic_training_flops(config: AutoencoderConfig, resolution: int) -> int:
    """Of the phase in which the vision network is frozen and nothing is decoded to pixels; per image, as above."""
    model = Autoencoder(config, device="meta").eval()
    image = torch.empty(1, 3, resolution, resolution, device="meta")
    side = resolution // config.compression
    code = torch.empty(1, config.latent_dim, side, side, device="meta")
    trained = _flops(model, model.posterior, image) + _flops(model, model.semantics, code)
    (trunk,) = (part for part in model.modules() if isinstance(part, Trunk))
    return (1 + BACKWARD_OVER_FORWARD) * trained - BACKWARD_OVER_FORWARD * _flops(trunk, trunk, image)


def _frozen_trunks(model: Autoencoder) -> list[Trunk]:
    return [part for part in model.modules() if isinstance(part, Trunk) and part.frozen]


@torch.no_grad()
def _flops(model: nn.Module, run: Callable[[Tensor], object], given: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, equal_blocks_once(model, counter.get_total_flops) as more:
        run(given)
        return counter.get_total_flops() + more()
