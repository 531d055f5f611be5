"""Attention inside windows of a map, with relative-position biases (Swin Transformer, arXiv 2103.14030, section 3.2).

Legend: B batch, H, W map, C channels, h heads, d head dimension, w window side, K windows per image, n tokens per
window.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transvae.layers.attention import attention
from transvae.layers.initialise import as_branch_output


@dataclass(frozen=True)
class Windows:
    """How a map is cut: window sides, padded sides and shifts, each as (vertical, horizontal)."""

    sides: tuple[int, int]
    padded: tuple[int, int]
    shifts: tuple[int, int]


def cut(height: int, width: int, window: int, shifted: bool) -> Windows:
    """Windows never exceed the map, and where one window covers a direction nothing is shifted in it."""
    sides = (min(window, height), min(window, width))
    padded = (-(-height // sides[0]) * sides[0], -(-width // sides[1]) * sides[1])
    shifts = tuple(s // 2 if shifted and size > s else 0 for s, size in zip(sides, (height, width), strict=True))
    return Windows(sides, padded, (shifts[0], shifts[1]))


def partition(x_BHWC: Tensor, sides: tuple[int, int]) -> Tensor:
    """(B, H, W, C) -> (B*K, n, C); H and W are multiples of the sides."""
    batch, height, width, channels = x_BHWC.shape
    x = x_BHWC.view(batch, height // sides[0], sides[0], width // sides[1], sides[1], channels)
    return x.transpose(2, 3).reshape(-1, sides[0] * sides[1], channels)


def merge(x_KnC: Tensor, sides: tuple[int, int], height: int, width: int) -> Tensor:
    """Inverse of `partition`: (B*K, n, C) -> (B, H, W, C)."""
    x = x_KnC.view(-1, height // sides[0], width // sides[1], sides[0], sides[1], x_KnC.shape[-1])
    return x.transpose(2, 3).reshape(-1, height, width, x_KnC.shape[-1])


@lru_cache(maxsize=256)
def relative_index(sides: tuple[int, int], window: int, device: torch.device) -> Tensor:
    """(n, n) indices into a (2w-1)^2 table of offsets; windows smaller than w use its centre."""
    with torch.inference_mode(False):
        y, x = torch.meshgrid(*(torch.arange(s, device=device) for s in sides), indexing="ij")
        y_n, x_n = y.flatten(), x.flatten()
        dy_nn, dx_nn = (t[:, None] - t[None, :] + window - 1 for t in (y_n, x_n))
        return dy_nn * (2 * window - 1) + dx_nn


@lru_cache(maxsize=256)
def window_mask(height: int, width: int, windows: Windows, device: torch.device) -> Tensor | None:
    """(K, 1, n, n), True where a query may see a key: both in one region, neither or both of them padding.

    None where every token may see its whole window. Padding sees padding, so that no row of the softmax is empty.
    """
    if windows.padded == (height, width) and windows.shifts == (0, 0):
        return None
    with torch.inference_mode(False):
        real = torch.zeros(windows.padded, dtype=torch.int64, device=device)
        real[:height, :width] = 1
        real = real.roll((-windows.shifts[0], -windows.shifts[1]), (0, 1))
        # After the roll the last window of each direction joins both ends of the map: number its two parts apart.
        parts = []
        for padded, shift in zip(windows.padded, windows.shifts, strict=True):
            parts.append((torch.arange(padded, device=device) >= padded - shift).long())
        region = 1 + parts[0][:, None] * 2 + parts[1][None, :]
        region_Kn = partition((region * real)[None, :, :, None], windows.sides)[..., 0]
        return (region_Kn[:, :, None] == region_Kn[:, None, :])[:, None]


class WindowAttention(nn.Module):
    """Self-attention within windows of w x w tokens, every second block with windows shifted by w/2.

    In and out (B, H, W, C), any H and W. 4C^2 + 4C + (2w-1)^2 h parameters. (TransVAE paper, table 6.)
    """

    def __init__(self, channels: int, head_dim: int, window: int, shifted: bool) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.window = window
        self.shifted = shifted
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = as_branch_output(nn.Linear(channels, channels))
        self.table = nn.Parameter(torch.empty((2 * window - 1) ** 2, channels // head_dim))

    def bias(self, height: int, width: int, windows: Windows) -> Tensor:
        """Relative-position bias with the mask applied: (1, h, n, n) or (K, h, n, n)."""
        index_nn = relative_index(windows.sides, self.window, self.table.device)
        bias_1hnn = self.table[index_nn].permute(2, 0, 1)[None]
        mask_K1nn = window_mask(height, width, windows, self.table.device)
        return bias_1hnn if mask_K1nn is None else bias_1hnn.masked_fill(~mask_K1nn, float("-inf"))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        batch, height, width, channels = x_BHWC.shape
        windows = cut(height, width, self.window, self.shifted)
        (padded_height, padded_width), (shift_y, shift_x) = windows.padded, windows.shifts
        if (padded_height, padded_width) != (height, width):
            x_BHWC = F.pad(x_BHWC, (0, 0, 0, padded_width - width, 0, padded_height - height))
        if shift_y or shift_x:
            x_BHWC = x_BHWC.roll((-shift_y, -shift_x), (1, 2))
        x_KnC = partition(x_BHWC, windows.sides)
        qkv_Kn3hd = self.qkv(x_KnC).view(*x_KnC.shape[:2], 3, channels // self.head_dim, self.head_dim)
        q_Knhd, k_Knhd, v_Knhd = qkv_Kn3hd.unbind(2)
        bias = self.bias(height, width, windows).to(q_Knhd.dtype)
        if bias.shape[0] > 1:
            bias = bias.repeat(batch, 1, 1, 1)
        mixed_KnC = attention(q_Knhd, k_Knhd, v_Knhd, bias).reshape(x_KnC.shape)
        x_BHWC = merge(self.out(mixed_KnC), windows.sides, padded_height, padded_width)
        if shift_y or shift_x:
            x_BHWC = x_BHWC.roll((shift_y, shift_x), (1, 2))
        return x_BHWC[:, :height, :width]
