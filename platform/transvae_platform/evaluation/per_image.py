"""PSNR, SSIM and LPIPS of every single image, as a protocol defines them.

Legend: B batch, H, W pixels; images (B, 3, H, W) in [-1, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor

from transvae.losses.perceptual import LPIPS
from transvae_platform.evaluation.protocols import Protocol, Values
from transvae_platform.evaluation.reconstruction import to_8bit
from transvae_platform.evaluation.similarity import ssim


def per_image(x_B3HW: Tensor, output_B3HW: Tensor, protocol: Protocol, lpips: LPIPS | None) -> dict[str, Tensor]:
    """(B,) float64 of each metric that the protocol has, infinite PSNR for identical images.

    Args:
        output_B3HW: the decoder's float32, unclamped.
        lpips: needed if the protocol has LPIPS; random weights give `lpips_random`.
    """
    seen = {
        kind: _values(x_B3HW, output_B3HW, kind) for kind in {protocol.psnr, protocol.ssim, protocol.lpips} - {None}
    }
    metrics = {"psnr": _psnr(*seen[protocol.psnr])}
    if protocol.ssim is not None:
        metrics["ssim"] = ssim(*seen[protocol.ssim])
    if protocol.lpips is not None:
        assert lpips is not None, "the protocol has LPIPS"
        x, output, _ = seen[protocol.lpips]
        if protocol.lpips == "levels":
            x, output = x / 127.5 - 1, output / 127.5 - 1
        metrics[lpips.term("lpips")] = lpips(x, output).double()
    return metrics


def _values(x_B3HW: Tensor, output_B3HW: Tensor, kind: Values | None) -> tuple[Tensor, Tensor, float]:
    """Both images as the protocol sees them, and the range of their values."""
    if kind == "levels":
        return to_8bit(x_B3HW), to_8bit(output_B3HW), 255.0
    return x_B3HW, output_B3HW.clamp(-1, 1) if kind == "clamped" else output_B3HW, 2.0


def _psnr(x_B3HW: Tensor, output_B3HW: Tensor, span: float) -> Tensor:
    mse_B = (x_B3HW - output_B3HW).double().square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(span**2 / mse_B)
