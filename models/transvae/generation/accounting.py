"""What a generator costs, by the conventions of `transvae/accounting.py` and `transvae/memory.py`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from transvae.accounting import BACKWARD_OVER_FORWARD
from transvae.generation.config import DiTConfig
from transvae.generation.lightning_dit import LightningDiT
from transvae.memory import kept_bytes


@dataclass(frozen=True)
class GeneratorCost:
    """Costs per latent; 2 FLOPs per multiply-add, attention's products of tokens with tokens included."""

    parameters: int
    forward_flops: int

    @property
    def training_flops(self) -> int:
        """Forward and backward, without recomputation."""
        return (1 + BACKWARD_OVER_FORWARD) * self.forward_flops


def count_generator(config: DiTConfig) -> GeneratorCost:
    """Counts a generator on the meta device."""
    model, inputs = _on_meta(config, torch.float32)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(*inputs)
    return GeneratorCost(sum(parameter.numel() for parameter in model.parameters()), counter.get_total_flops())


def count_activations(config: DiTConfig, *, bf16: bool, checkpointing: bool) -> int:
    """Bytes that a forward pass keeps for the backward pass, per latent; see `transvae.memory.count_activations`."""
    model, inputs = _on_meta(config, torch.bfloat16 if bf16 else torch.float32)
    model.gradient_checkpointing = checkpointing
    return kept_bytes(model.train(), *inputs)


def _on_meta(config: DiTConfig, dtype: torch.dtype) -> tuple[LightningDiT, tuple[Tensor, ...]]:
    with torch.device("meta"):
        model = LightningDiT(config).to(dtype)
        latent = torch.empty(1, config.latent_dim, config.latent_size, config.latent_size, dtype=dtype)
        return model, (latent, torch.empty(1, dtype=dtype), torch.zeros(1, dtype=torch.long))
