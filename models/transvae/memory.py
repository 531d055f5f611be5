"""What training a model needs of a device's memory, counted on the meta device without any.

Counted: the tensors that autograd keeps for the backward pass, each storage once, attention as the fused kernels keep
it (inputs, output, one number per row). Not counted: what a kernel needs while it runs, the allocator's gaps.
Legend: B batch, N tokens, h heads, d head dimension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

from transvae.autoencoder import Autoencoder
from transvae.config import AutoencoderConfig
from transvae.repeated import equal_blocks_once


def count_activations(config: AutoencoderConfig, resolution: int, *, bf16: bool, checkpointing: bool) -> int:
    """Bytes that a forward pass keeps for the backward pass, per image of resolution x resolution pixels.

    Under bf16 everything is taken to be bfloat16; autocast keeps a little in fp32. With checkpointing: the inputs of
    all blocks, without the one block that is recomputed at a time.
    """
    dtype = torch.bfloat16 if bf16 else torch.float32
    model = Autoencoder(config, device="meta", dtype=dtype).train()
    model.enable_gradient_checkpointing(checkpointing)
    return kept_bytes(_Answers(model), torch.empty(1, 3, resolution, resolution, device="meta", dtype=dtype))


def kept_bytes(model: nn.Module, *inputs: Any) -> int:
    """Bytes that a forward pass of a model on meta keeps for the backward pass; see `count_activations`."""
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage  # held, so that no other storage takes its address
        return tensor

    def total() -> int:
        return sum(storage.nbytes() for storage in kept.values())

    with (
        saved_tensors_hooks(keep, lambda tensor: tensor),
        _FusedAttention(),
        equal_blocks_once(model, total, 2) as more,
    ):
        _outputs = model(*inputs)
        return total() + more()


class _Answers(nn.Module):
    """A training pass of any autoencoder: S-VAE's has no pixels."""

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_B3HW: Tensor) -> list[Tensor]:
        return self.model.answers(self.model.posterior(x_B3HW).sample())


class _FusedAttention(TorchFunctionMode):
    """On meta, torch's attention takes the path that stores the N x N matrix, which no GPU kernel does."""

    def __torch_function__(
        self, function: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if function is F.scaled_dot_product_attention:
            return _Attention.apply(*args[:3])
        return function(*args, **(kwargs or {}))


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_BhNd: Tensor, k_BhNd: Tensor, v_BhNd: Tensor) -> Tensor:
        output_BhNd, rows_BhN = torch.empty_like(q_BhNd), q_BhNd.new_empty(q_BhNd.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(q_BhNd, k_BhNd, v_BhNd, output_BhNd, rows_BhN)
        return output_BhNd

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise NotImplementedError("only counted")
