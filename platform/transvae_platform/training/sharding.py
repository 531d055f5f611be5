"""Fully sharded training (torch's FSDP2): a rank holds a part of every weight, of its moments and of its average.

Protocol
1. Every block of a stage gathers its weights when it is used and lets them go; what lies outside of blocks (stems,
   resamplers, heads) stays gathered from the forward pass to the end of the backward pass, because adaptive weights
   are ratios of gradients at the last layers, which must be part of the graph.
2. Weights, gradients, moments and the average are fp32. Under bf16 weights are gathered in bfloat16, as autocast would
   cast them, and gradients are summed over ranks in fp32.
3. Weights are parts of rows (`Shard(0)`); checkpoints hold those parts with their places (`training/tensors.py`), so
   that any number of ranks, sharded or not, continues from them. Names are those of the unsharded model.
4. The average takes no part in training steps. It is gathered whole on every rank while it is measured or saved.

Where nothing is sharded the functions here return what they are given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from transvae_platform.world import World


def shard(network: nn.Module, blocks: Iterable[nn.Module], world: World, bf16: bool) -> None:
    """Divide the weights of a network, equal on all ranks so far, among them; in place."""
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
    mesh = init_device_mesh(world.device.type, (world.size,))
    # autocast casts activations: the posterior's noise and the images stay in fp32
    dtypes = (torch.bfloat16, torch.float32) if bf16 else (None, None)
    policy = MixedPrecisionPolicy(param_dtype=dtypes[0], reduce_dtype=dtypes[1], cast_forward_inputs=False)
    for parameter in network.parameters():
        parameter.data = parameter.data.contiguous()  # rows can be divided in this memory order only
    for block in [*blocks]:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(network, mesh=mesh, mp_policy=policy, reshard_after_forward=False)


def parts_of(values: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors, equal on all ranks, divided as those of the same names in `like`; nothing is sent."""
    return {name: _part_of(value, like[name]) for name, value in values.items()}


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The tensor with the parts of all ranks; all of them call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """A model that is no FSDP module with whole weights, while the block lasts; all ranks enter together."""
    parts = {name: tensor for name, tensor in model.named_parameters() if isinstance(tensor, DTensor)}
    if not parts:
        yield
        return
    model.load_state_dict({name: whole(part.detach()) for name, part in parts.items()}, strict=False, assign=True)
    try:
        yield
    finally:
        model.load_state_dict(parts, strict=False, assign=True)


def _part_of(value: Tensor, like: Tensor) -> Tensor:
    if not isinstance(like, DTensor):
        return value
    part = distribute_tensor(value.to(like.device).contiguous(), like.device_mesh, like.placements, src_data_rank=None)
    assert isinstance(part, DTensor)
    return part
