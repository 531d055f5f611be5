"""What a model costs: parameters and FLOPs, counted on the meta device without any memory.

Convention: one multiply-add is 2 FLOPs; matrix products and convolutions count, norms and activations do not; the
backward pass is twice the forward. Counted by torch's FlopCounterMode, on "meta" because on CPU it counts 0 for SDPA.
"""

from dataclasses import dataclass, replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from transvae.autoencoder import Autoencoder
from transvae.config import AutoencoderConfig
from transvae.families.representation import Trunk
from transvae.registry import model_config

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


def count_model(config_or_name: AutoencoderConfig | str, resolution: int | None = None) -> ModelCost:
    """Counts a model at `resolution` (its training resolution by default).

    Raises ValueError for an unknown name or a resolution that the compression does not divide.
    """
    config = model_config(config_or_name) if isinstance(config_or_name, str) else config_or_name
    size = config.resolution if resolution is None else resolution
    replace(config, resolution=size)  # refuses a resolution that does not fit, in the configuration's own words
    model = Autoencoder(config, device="meta").eval()
    latent = size // config.compression
    with torch.no_grad():
        with FlopCounterMode(display=False) as encoder_flops:
            model.posterior(torch.empty(1, 3, size, size, device="meta"))
        with FlopCounterMode(display=False) as decoder_flops:
            model.answers(torch.empty(1, config.latent_dim, latent, latent, device="meta"))
        frozen = _frozen_flops(model, size)
    encoder_parameters, decoder_parameters = _parameters(model)
    return ModelCost(
        name=config.name,
        resolution=size,
        encoder_parameters=encoder_parameters,
        decoder_parameters=decoder_parameters,
        encoder_forward_flops=encoder_flops.get_total_flops(),
        decoder_forward_flops=decoder_flops.get_total_flops(),
        frozen_forward_flops=frozen,
    )


def _frozen_flops(model: Autoencoder, size: int) -> int:
    trunks = [part for part in model.modules() if isinstance(part, Trunk) and part.frozen]
    with FlopCounterMode(display=False) as flops:
        for trunk in trunks:
            trunk(torch.empty(1, 3, size, size, device="meta"))
    return flops.get_total_flops()
