"""Resamplers of the convolutional skeletons, each halving or doubling H and W.

Legend: B batch, a input channels, b output channels, H, W map.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FOLDED_FROM = 1024
"""Pixels of a map from which a CPU convolves it before it is doubled. With 256 channels of 32 x 32 forward and backward
take 0.5 x the time (one core, float32); with 512 of 16 x 16 adding up the weights takes what is saved."""


def double_and_convolve(x_BaHW: Tensor, conv: nn.Conv2d) -> Tensor:
    """Nearest x2, then `conv`, 3x3 with padding 1 -> (B, b, 2H, 2W).

    Each output pixel sees four input pixels only, as nearest repeats them. A transposed 4x4 convolution of stride 2
    whose weights are sums of the 3x3's is the same map (up to rounding) in 16 instead of 36 products per input pixel.
    Whether that is quicker on GPUs has not been measured: they take the two steps.
    """
    height, width = x_BaHW.shape[2:]
    folds = x_BaHW.device.type == "cpu" and not torch.is_autocast_enabled("cpu") and height * width >= FOLDED_FROM
    if not folds:
        doubled: Tensor = conv(F.interpolate(x_BaHW, scale_factor=2.0, mode="nearest"))
        return doubled
    weight_ab44 = _fold(_fold(conv.weight, 2), 3).transpose(0, 1)
    return F.conv_transpose2d(x_BaHW, weight_ab44, conv.bias, stride=2, padding=1)


def _fold(weight: Tensor, dim: int) -> Tensor:
    """The three weights of an axis as the four of a transposed convolution of stride 2."""
    first, middle, last = weight.unbind(dim)
    return torch.stack((last, middle + last, first + middle, first), dim)


def average_groups(x_BaHW: Tensor, b: int) -> Tensor:
    """Parameter-free halving: pixel unshuffle, then the mean of each 4a/b neighbouring channels -> (B, b, H/2, W/2).

    (Down shortcut of DC-AE, arXiv 2410.10733; TransVAE paper, section 3.3.2.)
    """
    x_B4aHW = F.pixel_unshuffle(x_BaHW, 2)
    batch, channels, height, width = x_B4aHW.shape
    return x_B4aHW.view(batch, b, channels // b, height, width).mean(2)


class DCDown(nn.Module):
    """TransVAE's halving: (B, a, H, W) -> (B, b, H/2, W/2), 4ab parameters.

    A 2x2 convolution of stride 2 (the same map as pixel unshuffle and a 1x1 convolution), plus, on the DC path, the
    averaging shortcut. (TransVAE paper, section 3.3.2 and table 3, which pins 4ab; where the weights sit is open.)
    """

    def __init__(self, a: int, b: int, dc_path: bool) -> None:
        super().__init__()
        self.dc_path = dc_path
        self.conv = nn.Conv2d(a, b, 2, stride=2, bias=False)

    def forward(self, x_BaHW: Tensor) -> Tensor:
        y_BbHW: Tensor = self.conv(x_BaHW)
        return y_BbHW + average_groups(x_BaHW, y_BbHW.shape[1]) if self.dc_path else y_BbHW


class DCUp(nn.Module):
    """TransVAE's doubling: (B, a, H, W) -> (B, b, 2H, 2W), 9ab parameters and 4ab more on the DC path.

    Nearest x2 and conv3x3; the DC path adds a 1x1 convolution to 4b channels and a parameter-free duplicate of each
    input channel, both through pixel shuffle. (TransVAE paper, section 3.3.2 and table 3, which pins 13ab; the
    duplicate is DC-AE's up shortcut and worth 1.3 dB in short runs at micro scale.)
    """

    def __init__(self, a: int, b: int, dc_path: bool) -> None:
        super().__init__()
        self.copies = 4 * b // a
        self.conv = nn.Conv2d(a, b, 3, padding=1, bias=False)
        self.shuffled = nn.Conv2d(a, 4 * b, 1, bias=False) if dc_path else None

    def forward(self, x_BaHW: Tensor) -> Tensor:
        y_BbHW = double_and_convolve(x_BaHW, self.conv)
        if self.shuffled is not None:
            duplicate = x_BaHW.repeat_interleave(self.copies, dim=1)
            y_BbHW = y_BbHW + F.pixel_shuffle(self.shuffled(x_BaHW) + duplicate, 2)
        return y_BbHW


class StridedDown(nn.Module):
    """(B, C, H, W) -> (B, C, H/2, W/2): pad right and bottom by one, conv3x3 of stride 2. 9C^2 + C parameters.

    (CompVis latent-diffusion Downsample; TransVAE paper, table 4.)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y: Tensor = self.conv(F.pad(x_BCHW, (0, 1, 0, 1)))
        return y


class NearestUp(nn.Module):
    """(B, C, H, W) -> (B, C, 2H, 2W): nearest x2, conv3x3. 9C^2 + C parameters. (As StridedDown.)"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return double_and_convolve(x_BCHW, self.conv)


class PatchMerge(nn.Module):
    """Swin's halving on tokens: (B, H, W, a) -> (B, H/2, W/2, 2a), LayerNorm(4a) and a linear map. 8a^2 + 8a.

    (Swin Transformer, arXiv 2103.14030, section 3.1; TransVAE paper, table 6.)
    """

    def __init__(self, a: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * a)
        self.linear = nn.Linear(4 * a, 2 * a, bias=False)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        batch, height, width, channels = x_BHWC.shape
        x = x_BHWC.view(batch, height // 2, 2, width // 2, 2, channels).permute(0, 1, 3, 4, 2, 5)
        y: Tensor = self.linear(self.norm(x.reshape(batch, height // 2, width // 2, 4 * channels)))
        return y


class PatchExpand(nn.Module):
    """Swin's doubling on tokens: (B, H, W, a) -> (B, 2H, 2W, a/2), LayerNorm(a) and a linear map. 2a^2 + 2a.

    (Swin-Unet, arXiv 2105.05537, with the norm in front; TransVAE paper, table 6.)
    """

    def __init__(self, a: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(a)
        self.linear = nn.Linear(a, 2 * a, bias=False)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        batch, height, width, channels = x_BHWC.shape
        x = self.linear(self.norm(x_BHWC)).view(batch, height, width, 2, 2, channels // 2)
        return x.permute(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, channels // 2)
