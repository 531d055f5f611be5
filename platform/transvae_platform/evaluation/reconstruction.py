"""How well a model reconstructs held-out images: L1, MSE, PSNR, SSIM, and the pictures to look at.

BCHW: batch, 3 channels, height, width in [-1, 1]. The latent is the posterior's mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from transvae_platform.data.sets.mixture import Samples
from transvae_platform.data.stream.batches import to_model_input
from transvae_platform.evaluation.similarity import ssim
from transvae_platform.files import whole_file
from transvae_platform.world import World


@torch.no_grad()
def evaluate_reconstruction(
    model: nn.Module, samples: Samples, images: int, batch_size: int, world: World
) -> dict[str, float]:
    """Means over `images` held-out samples, spread evenly over the split and shared out over all processes.

    Args:
        batch_size: images per forward pass; the metrics do not depend on it.

    Returns:
        `val/l1` and `val/mse` on floats in [-1, 1]; `val/psnr` in dB per image from 8-bit values, then averaged, as
        VA-VAE's evaluation does; `val/ssim` with an 11 x 11 Gaussian window, sigma 1.5, range 2.
    """
    ids = spread(images, samples)[world.rank :: world.size]
    totals = torch.zeros(5, dtype=torch.float64, device=world.device)
    for start in range(0, len(ids), batch_size):
        x_BCHW = to_model_input(torch.from_numpy(samples.read(ids[start : start + batch_size])), world.device)
        reconstruction_BCHW, *_ = model(x_BCHW)
        totals += _sums(x_BCHW, reconstruction_BCHW.float().clamp(-1, 1))
    l1, mse, psnr, ssim, count = world.sum(totals).tolist()
    return {"val/l1": l1 / count, "val/mse": mse / count, "val/psnr": psnr / count, "val/ssim": ssim / count}


def _sums(x_BCHW: Tensor, reconstruction_BCHW: Tensor) -> Tensor:
    error = (x_BCHW - reconstruction_BCHW).double()
    mse_8bit_B = (to_8bit(x_BCHW) - to_8bit(reconstruction_BCHW)).double().square().mean(dim=(1, 2, 3))
    # an image without any error would give an infinite PSNR; one grey level in one value bounds it
    floor = 1.0 / x_BCHW[0].numel()
    psnr_B = 10 * torch.log10(255.0**2 / mse_8bit_B.clamp_min(floor))
    return torch.stack(
        [
            error.abs().mean(dim=(1, 2, 3)).sum(),
            error.square().mean(dim=(1, 2, 3)).sum(),
            psnr_B.sum(),
            ssim(x_BCHW, reconstruction_BCHW, span=2.0).sum(),
            torch.tensor(float(len(x_BCHW)), dtype=torch.float64, device=error.device),
        ]
    )


def spread(count: int, samples: Samples) -> np.ndarray:
    """Up to `count` ids at even distances: a photograph's crops lie side by side, and all photographs should count."""
    return np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(np.int64)


def to_8bit(x: Tensor) -> Tensor:
    """[-1, 1] to the 8-bit levels 0..255 (as floats), rounding to the nearest."""
    return (x * 127.5 + 127.5).round().clamp(0, 255)


@torch.no_grad()
def save_pictures(model: nn.Module, samples: Samples, count: int, device: torch.device, path: Path) -> list[float]:
    """Write originals (top row) above reconstructions (bottom row) as one PNG; returns each picture's PSNR in dB."""
    ids = spread(count, samples)
    x_BCHW = to_model_input(torch.from_numpy(samples.read(ids)), device)
    reconstruction_BCHW, *_ = model(x_BCHW)
    rows = [to_8bit(images.float().clamp(-1, 1)) for images in (x_BCHW, reconstruction_BCHW)]
    write_grid(rows, path)
    mse_B = (rows[0] - rows[1]).double().square().mean(dim=(1, 2, 3)).clamp_min(1.0 / x_BCHW[0].numel())
    return [round(value, 2) for value in (10 * torch.log10(255.0**2 / mse_B)).tolist()]


def write_grid(rows: Sequence[Tensor], path: Path) -> None:
    """Write rows of 8-bit levels, each (B, 3, H, W), below each other as one PNG, whole or not at all."""
    grid = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        Image.fromarray(grid.permute(1, 2, 0).cpu().numpy().astype(np.uint8)).save(temporary, format="PNG")
