"""What a generator costs, by the conventions of `transvae/accounting.py` and `transvae/memory.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from transvae.accounting import BACKWARD_OVER_FORWARD
from transvae.generation.config import DiTConfig
from transvae.generation.lightning_dit import LightningDiT
from transvae.generation.text import Text
from transvae.generation.text_config import TextDiTConfig
from transvae.generation.text_dit import TextDiT
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


def count_generator(config: DiTConfig | TextDiTConfig, tokens: int = 0) -> GeneratorCost:
    """Counts a generator on the meta device; one that reads text with so many tokens of it."""
    model, inputs = _on_meta(config, torch.float32, tokens)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(*inputs)
    return GeneratorCost(sum(parameter.numel() for parameter in model.parameters()), counter.get_total_flops())


def count_activations(config: DiTConfig | TextDiTConfig, tokens: int = 0, *, bf16: bool, checkpointing: bool) -> int:
    """Bytes that a forward pass keeps for the backward pass, per latent; see `transvae.memory.count_activations`."""
    model, inputs = _on_meta(config, torch.bfloat16 if bf16 else torch.float32, tokens)
    model.gradient_checkpointing = checkpointing
    return kept_bytes(model.train(), *inputs)


def _on_meta(
    config: DiTConfig | TextDiTConfig, dtype: torch.dtype, tokens: int
) -> tuple[LightningDiT | TextDiT, tuple[Any, ...]]:
    with torch.device("meta"):
        latent = torch.empty(1, config.latent_dim, config.latent_size, config.latent_size, dtype=dtype)
        time = torch.empty(1, dtype=dtype)
        if isinstance(config, DiTConfig):
            return LightningDiT(config).to(dtype), (latent, time, torch.zeros(1, dtype=torch.long))
        text = Text(torch.empty(1, tokens, config.text_dim, dtype=dtype), torch.ones(1, tokens, dtype=torch.bool))
        return TextDiT(config).to(dtype), (latent, time, text)
