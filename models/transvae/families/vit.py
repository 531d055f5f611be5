"""ViT-VAE: one patch embedding, one transformer trunk, one pixel head per side (TransVAE paper, table 5).

Legend: B batch, C channels, H, W pixels, h, w latent map (h = H / patch), d latent channels.
"""

from torch import Tensor, nn

from transvae.config import ViTLayout
from transvae.layers.convolution import sequential_head, sequential_stem
from transvae.layers.normalisation import ChannelNorm, token_norm
from transvae.layers.position import LearnedGrid
from transvae.layers.stage import TokenStage
from transvae.layers.transformer import TransformerBlock


def _trunk(layout: ViTLayout, resolution: int) -> TokenStage:
    learned = layout.position == "learned"
    position = LearnedGrid(layout.width, resolution // layout.patch) if learned else nn.Identity()
    # No biases in the trunk, norms included: pinned by the parameter counts of table 5. GELU as in every plain ViT.
    blocks = (TransformerBlock(layout.width, layout, nn.GELU, norm_bias=False) for _ in range(layout.depth))
    return TokenStage(blocks, position)


def _norm(layout: ViTLayout) -> ChannelNorm:
    return ChannelNorm(token_norm(layout.norm, layout.width, bias=False))


def _stem(layout: ViTLayout) -> nn.Module:
    if layout.patching == "seqconv":
        return sequential_stem(layout.width, layout.patch)
    return nn.Conv2d(3, layout.width, layout.patch, stride=layout.patch)


def _head(layout: ViTLayout) -> nn.Module:
    """(B, C, h, w) -> (B, 3, H, W). The paper's head shuffles first and then convolves C/patch^2 channels to RGB."""
    width, patch = layout.width, layout.patch
    if layout.patching == "seqconv":
        return sequential_head(width, patch)
    if layout.patching == "linear":
        return nn.Sequential(nn.Conv2d(width, 3 * patch**2, 1), nn.PixelShuffle(patch))
    return nn.Sequential(nn.PixelShuffle(patch), nn.Conv2d(width // patch**2, 3, 3, padding=1))


class Encoder(nn.Module):
    """(B, 3, H, W) -> moments (B, 2d, h, w)."""

    def __init__(self, layout: ViTLayout, latent_dim: int, resolution: int) -> None:
        super().__init__()
        self.stem = _stem(layout)
        self.trunk = _trunk(layout, resolution)
        self.norm = _norm(layout)
        self.moments = nn.Conv2d(layout.width, 2 * latent_dim, 1)

    def forward(self, x_B3HW: Tensor) -> Tensor:
        moments: Tensor = self.moments(self.norm(self.trunk(self.stem(x_B3HW))))
        return moments


class Decoder(nn.Module):
    """(B, d, h, w) -> (B, 3, H, W), with a trunk of the encoder's depth."""

    def __init__(self, layout: ViTLayout, latent_dim: int, resolution: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(latent_dim, layout.width, 1)
        self.trunk = _trunk(layout, resolution)
        self.norm = _norm(layout)
        self.head = _head(layout)

    def forward(self, z_Bdhw: Tensor) -> Tensor:
        image: Tensor = self.head(self.norm(self.trunk(self.stem(z_Bdhw))))
        return image
