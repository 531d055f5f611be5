"""torch.compile for a trial's network, block by block (`recipe.compile`).

Blocks of one kind share their compiled code, which a whole network would not; gathering of sharded weights,
recomputation and the last layers, at which adaptive weights look, stay outside. Only what is trained is compiled: the
average is measured as it is.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from transvae_platform.errors import UserError

SHAPES = 64
"""Versions of one block that are compiled, one per width and size of image (torch's own limit, 8, is below a CNN's)."""


def compile_blocks(blocks: Iterable[nn.Module], device: torch.device) -> None:
    """Let every block of a model run compiled, in place; names of modules and weights stay.

    Raises:
        UserError: this machine has no compiler for the device.
    """
    _refuse_without_compiler(device)
    torch._dynamo.config.recompile_limit = max(SHAPES, torch._dynamo.config.recompile_limit)
    # adaptive weights go through a graph before the backward pass does: its buffers must outlive the first time
    torch._functorch.config.donated_buffer = False
    for block in blocks:
        # the method, not the module: hooks of FSDP are no part of what is compiled
        block.forward = torch.compile(block.forward, dynamic=False)


def _refuse_without_compiler(device: torch.device) -> None:
    # here, because they take seconds to import
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler
    from torch.utils._triton import has_triton

    if device.type == "cuda":
        missing = "" if has_triton() else "triton and a GPU that it supports"
    else:
        try:
            get_cpp_compiler()
            missing = ""
        except InvalidCxxCompiler:
            missing = "a C++ compiler such as g++"
    if missing:
        raise UserError(
            f"recipe.compile: torch.compile needs {missing}, which this machine does not have - install it where the "
            "trials run, or set recipe.compile=false"
        )
