"""CNN-VAE: the LDM/VQGAN autoencoder (TransVAE paper, table 4; CompVis latent-diffusion, AutoencoderKL).

Legend: B batch, C channels, H, W pixels or map, h, w latent map, d latent channels.
"""

from torch import Tensor, nn

from transvae.config import CNNLayout
from transvae.layers.attention import SelfAttention
from transvae.layers.convolution import ResBlock, pixel_head
from transvae.layers.normalisation import group_norm
from transvae.layers.resample import NearestUp, StridedDown
from transvae.layers.stage import Stage


class MapAttention(nn.Module):
    """x + attention(GroupNorm(x)) with one head over all channels and biases. (B, C, H, W) in and out; 4C^2 + 6C."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.attention = SelfAttention(channels, channels, rope=False, qk_norm=False, bias=True)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        mixed_BHWC = self.attention(self.norm(x_BCHW).permute(0, 2, 3, 1))
        out: Tensor = x_BCHW + mixed_BHWC.permute(0, 3, 1, 2)
        return out


def _mid(layout: CNNLayout) -> Stage:
    width = layout.widths[-1]
    attention = [MapAttention(width)] if layout.mid_attention else []
    return Stage([ResBlock(width, width), *attention, ResBlock(width, width)])


def _stages(layout: CNNLayout, widths: tuple[int, ...], deepest: int) -> nn.ModuleList:
    """One stage per width; the first ResBlock of a stage changes the width, the deepest stage has the attention.

    LDM names the attention by resolution (16 at 256 pixels). Naming it by stage keeps it there at every input size.
    """
    stages = []
    for index, (a, b) in enumerate(zip((widths[0], *widths), widths, strict=False)):
        blocks: list[nn.Module] = [ResBlock(a if i == 0 else b, b) for i in range(layout.blocks)]
        if layout.stage_attention and index == deepest:
            blocks = [nn.Sequential(block, MapAttention(b)) for block in blocks]
        stages.append(Stage(blocks))
    return nn.ModuleList(stages)


class Encoder(nn.Module):
    """(B, 3, H, W) -> moments (B, 2d, h, w), ending in the 1x1 "quant" convolution."""

    def __init__(self, layout: CNNLayout, latent_dim: int) -> None:
        super().__init__()
        widths = layout.widths
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        self.stages = _stages(layout, widths, deepest=len(widths) - 1)
        self.downs = nn.ModuleList(StridedDown(width) for width in widths[:-1])
        self.mid = _mid(layout)
        self.head = nn.Sequential(
            group_norm(widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], 2 * latent_dim, 3, padding=1)
        )
        self.moments = nn.Conv2d(2 * latent_dim, 2 * latent_dim, 1)

    def forward(self, x_B3HW: Tensor) -> Tensor:
        x: Tensor = self.stages[0](self.stem(x_B3HW))
        for down, stage in zip(self.downs, self.stages[1:], strict=True):
            x = stage(down(x))
        moments: Tensor = self.moments(self.head(self.mid(x)))
        return moments


class Decoder(nn.Module):
    """(B, d, h, w) -> (B, 3, H, W), beginning with the 1x1 "post-quant" convolution."""

    def __init__(self, layout: CNNLayout, latent_dim: int) -> None:
        super().__init__()
        widths = layout.widths[::-1]
        self.post_quant = nn.Conv2d(latent_dim, latent_dim, 1)
        self.stem = nn.Conv2d(latent_dim, widths[0], 3, padding=1)
        self.mid = _mid(layout)
        self.stages = _stages(layout, widths, deepest=0)
        self.ups = nn.ModuleList(NearestUp(width) for width in widths[:-1])
        self.head = pixel_head(group_norm(widths[-1]), widths[-1])

    def forward(self, z_Bdhw: Tensor) -> Tensor:
        x: Tensor = self.stages[0](self.mid(self.stem(self.post_quant(z_Bdhw))))
        for up, stage in zip(self.ups, self.stages[1:], strict=True):
            x = stage(up(x))
        image: Tensor = self.head(x)
        return image
