"""Where a token is: rotary angles over the image plane, or a learned grid.

Legend: B batch, N tokens = H x W in raster order, h heads, d head dimension, C channels.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROPE_THETA = 100.0  # assumption: not stated in the TransVAE paper; the base that 2D rotary ViTs commonly use


@lru_cache(maxsize=128)
def rope_tables(
    height: int, width: int, head_dim: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """cos and sin of the rotation angles, each of shape (N, d), for integer positions (y, x).

    With Q = d/4 frequencies theta^(-k/Q), the first Q pairs turn by the y angle and the next Q by the x angle; channel
    i is paired with i + d/2. Positions are never rescaled, so a larger image simply has larger positions. Angles are
    computed in fp32 and cast afterwards: in bf16 their cosines would be wrong by up to 0.24 at position 127.
    """
    # A table made under inference_mode would poison the cache: autograd refuses to save such tensors.
    with torch.inference_mode(False), torch.no_grad():
        quarter = head_dim // 4
        frequencies = ROPE_THETA ** (-torch.arange(quarter, device=device, dtype=torch.float32) / quarter)
        y, x = (torch.arange(size, device=device, dtype=torch.float32) for size in (height, width))
        angles_y = (y[:, None, None] * frequencies).expand(height, width, quarter)
        angles_x = (x[None, :, None] * frequencies).expand(height, width, quarter)
        angles_Nd = torch.cat([angles_y, angles_x, angles_y, angles_x], dim=-1).reshape(height * width, head_dim)
        return angles_Nd.cos().to(dtype), angles_Nd.sin().to(dtype)


def rotate(x_BNhd: Tensor, height: int, width: int) -> Tensor:
    """Rotates queries or keys by their positions: scores then depend only on the offset between two tokens.

    Shape and dtype are kept; N = height x width. (TransVAE paper, section 3.2.1; axial 2D form.)
    """
    cos_Nd, sin_Nd = rope_tables(height, width, x_BNhd.shape[-1], x_BNhd.device, x_BNhd.dtype)
    first, second = x_BNhd.chunk(2, dim=-1)
    return x_BNhd * cos_Nd[:, None] + torch.cat([-second, first], dim=-1) * sin_Nd[:, None]


class LearnedGrid(nn.Module):
    """A learned C x G x G grid added to the tokens, resized bilinearly where the map is not G x G.

    In and out (B, H, W, C). (Absolute position embedding of the TransVAE paper, section 3.2.1; the resize is an
    assumption, the paper does not state how it applies the grid to larger images.)
    """

    def __init__(self, channels: int, grid: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(channels, grid, grid))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        table_CHW: Tensor = self.table
        if table_CHW.shape[1:] != x_BHWC.shape[1:3]:
            size = (x_BHWC.shape[1], x_BHWC.shape[2])
            table_CHW = F.interpolate(table_CHW[None], size=size, mode="bilinear", align_corners=False)[0]
        return x_BHWC + table_CHW.permute(1, 2, 0).to(x_BHWC.dtype)
