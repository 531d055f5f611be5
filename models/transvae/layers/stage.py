"""A stage: blocks that run in turn at one resolution, optionally under gradient checkpointing.

Legend: B batch, C channels, H, W map.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Stage(nn.Module):
    """Blocks in turn; in and out of one shape, whichever layout the blocks use.

    With `checkpointing` each block's activations are recomputed in the backward pass instead of kept.
    """

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        recompute = self.checkpointing and torch.is_grad_enabled()
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
        return x


class TokenStage(Stage):
    """Transformer blocks on a feature map: (B, C, H, W) in and out, (B, H, W, C) inside.

    `position` is added to the tokens before the first block (identity for rotary positions, which act inside).
    """

    def __init__(self, blocks: Iterable[nn.Module], position: nn.Module) -> None:
        super().__init__(blocks)
        self.position = position

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BHWC = self.position(x_BCHW.permute(0, 2, 3, 1).contiguous())
        return super().forward(x_BHWC).permute(0, 3, 1, 2)
