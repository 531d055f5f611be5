"""Swin-VAE: shifted-window attention in every stage (TransVAE paper, table 6).

Legend: B batch, C channels, H, W pixels or token map, h, w latent map, d latent channels.
"""

from torch import Tensor, nn

from transvae.config import SwinLayout
from transvae.layers.feedforward import FeedForward
from transvae.layers.normalisation import ChannelNorm
from transvae.layers.resample import PatchExpand, PatchMerge
from transvae.layers.stage import Stage
from transvae.layers.window import WindowAttention


class SwinBlock(nn.Module):
    """x + windows(LN(x)), then x + mlp(LN(x)). In and out (B, H, W, C); 12C^2 + 13C + (2w-1)^2 h parameters."""

    def __init__(self, channels: int, layout: SwinLayout, shifted: bool) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, layout.head_dim, layout.window, shifted)
        self.mlp_norm = nn.LayerNorm(channels)
        self.mlp = FeedForward(channels, "standard", layout.ffn_ratio, nn.GELU, bias=True)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        x_BHWC = x_BHWC + self.attention(self.attention_norm(x_BHWC))
        out: Tensor = x_BHWC + self.mlp(self.mlp_norm(x_BHWC))
        return out


def _stage(layout: SwinLayout, index: int) -> Stage:
    """Unshifted and shifted blocks in turn, starting unshifted."""
    blocks = (SwinBlock(layout.widths[index], layout, shifted=i % 2 == 1) for i in range(layout.depths[index]))
    return Stage(blocks)


class Encoder(nn.Module):
    """(B, 3, H, W) -> moments (B, 2d, h, w)."""

    def __init__(self, layout: SwinLayout, latent_dim: int) -> None:
        super().__init__()
        widths = layout.widths
        self.stem = nn.Conv2d(3, widths[0], layout.patch, stride=layout.patch)
        self.stem_norm = nn.LayerNorm(widths[0])
        self.stages = nn.ModuleList(_stage(layout, i) for i in range(len(widths)))
        self.merges = nn.ModuleList(PatchMerge(width) for width in widths[:-1])
        self.norm = nn.LayerNorm(widths[-1])
        self.moments = nn.Conv2d(widths[-1], 2 * latent_dim, 1)

    def forward(self, x_B3HW: Tensor) -> Tensor:
        x_BHWC = self.stem_norm(self.stem(x_B3HW).permute(0, 2, 3, 1))
        x_BHWC = self.stages[0](x_BHWC)
        for merge, stage in zip(self.merges, self.stages[1:], strict=True):
            x_BHWC = stage(merge(x_BHWC))
        moments: Tensor = self.moments(self.norm(x_BHWC).permute(0, 3, 1, 2))
        return moments


class Decoder(nn.Module):
    """(B, d, h, w) -> (B, 3, H, W): the encoder's stages in reverse, at the same depths."""

    def __init__(self, layout: SwinLayout, latent_dim: int) -> None:
        super().__init__()
        widths = layout.widths
        self.stem = nn.Conv2d(latent_dim, widths[-1], 1)
        self.stages = nn.ModuleList(_stage(layout, i) for i in reversed(range(len(widths))))
        self.expands = nn.ModuleList(PatchExpand(width) for width in widths[:0:-1])
        self.norm = ChannelNorm(nn.LayerNorm(widths[0]))
        self.head = nn.Sequential(nn.Conv2d(widths[0], 3 * layout.patch**2, 1), nn.PixelShuffle(layout.patch))

    def forward(self, z_Bdhw: Tensor) -> Tensor:
        x_BHWC: Tensor = self.stages[0](self.stem(z_Bdhw).permute(0, 2, 3, 1).contiguous())
        for expand, stage in zip(self.expands, self.stages[1:], strict=True):
            x_BHWC = stage(expand(x_BHWC))
        image: Tensor = self.head(self.norm(x_BHWC.permute(0, 3, 1, 2)))
        return image
