"""TransVAE: convolution stages, then attention stages (TransVAE paper, section 3.2 and table 3).

Legend: B batch, H, W pixels, h, w latent map, d latent channels.
"""

from itertools import pairwise

from torch import Tensor, nn

from transvae.config import TransVAELayout
from transvae.layers.convolution import ResBlock, pixel_head
from transvae.layers.normalisation import ChannelNorm, token_norm
from transvae.layers.position import LearnedGrid
from transvae.layers.resample import DCDown, DCUp
from transvae.layers.stage import Stage, TokenStage
from transvae.layers.transformer import TransformerBlock


def _stage(layout: TransVAELayout, index: int, learned_grid: int | None) -> Stage:
    """Stage `index`, counted from full resolution in both sides, with its position grid if it is the one to hold it."""
    width, depth = layout.widths[index], layout.depths[index]
    if index < layout.res_stages:
        return Stage(ResBlock(width, width) for _ in range(depth))
    position = nn.Identity() if learned_grid is None else LearnedGrid(width, learned_grid)
    # SiLU is an assumption (the paper names no activation); the norms' biases follow torch's LayerNorm.
    return TokenStage((TransformerBlock(width, layout, nn.SiLU, norm_bias=True) for _ in range(depth)), position)


def _norm(layout: TransVAELayout, width: int) -> ChannelNorm:
    return ChannelNorm(token_norm(layout.norm, width, bias=True))


class Encoder(nn.Module):
    """(B, 3, H, W) -> moments (B, 2d, h, w). No MidBlock; widths change only in the resamplers."""

    def __init__(self, layout: TransVAELayout, latent_dim: int, resolution: int) -> None:
        super().__init__()
        widths = layout.widths
        # A learned grid enters once, where the tokens begin (as after the stem of a ViT): the first attention stage.
        grids = {layout.res_stages: resolution >> layout.res_stages} if layout.position == "learned" else {}
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        self.stages = nn.ModuleList(_stage(layout, i, grids.get(i)) for i in range(len(widths)))
        self.downs = nn.ModuleList(DCDown(a, b, layout.dc_path) for a, b in pairwise(widths))
        self.norm = _norm(layout, widths[-1])
        self.moments = nn.Conv2d(widths[-1], 2 * latent_dim, 3, padding=1)

    def forward(self, x_B3HW: Tensor) -> Tensor:
        x: Tensor = self.stages[0](self.stem(x_B3HW))
        for down, stage in zip(self.downs, self.stages[1:], strict=True):
            x = stage(down(x))
        moments: Tensor = self.moments(self.norm(x))
        return moments


class Decoder(nn.Module):
    """(B, d, h, w) -> (B, 3, H, W): the encoder's stages in reverse, at the same depths."""

    def __init__(self, layout: TransVAELayout, latent_dim: int, resolution: int) -> None:
        super().__init__()
        widths = layout.widths
        last = len(widths) - 1
        grids = {last: resolution >> last} if layout.position == "learned" else {}
        self.stem = nn.Conv2d(latent_dim, widths[-1], 3, padding=1)
        self.stages = nn.ModuleList(_stage(layout, i, grids.get(i)) for i in reversed(range(len(widths))))
        self.ups = nn.ModuleList(DCUp(a, b, layout.dc_path) for a, b in pairwise(reversed(widths)))
        self.head = pixel_head(_norm(layout, widths[0]), widths[0])

    def forward(self, z_Bdhw: Tensor) -> Tensor:
        x: Tensor = self.stages[0](self.stem(z_Bdhw))
        for up, stage in zip(self.ups, self.stages[1:], strict=True):
            x = stage(up(x))
        image: Tensor = self.head(x)
        return image
