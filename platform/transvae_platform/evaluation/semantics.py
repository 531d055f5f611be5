"""How well a model's decoded features agree with those of the frozen vision network, and how that looks.

The latent is the posterior's mean. Legend: B batch, H, W pixels, C feature channels, h, w latent map.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from transvae.autoencoder import Autoencoder
from transvae.losses.frozen import Frozen
from transvae.losses.semantic import agreement
from transvae_platform.data.sets.mixture import Samples
from transvae_platform.data.stream.batches import to_model_input
from transvae_platform.evaluation.reconstruction import spread, to_8bit, write_grid
from transvae_platform.world import World

Target = Callable[[Tensor], Tensor]
"""The frozen network: images (B, 3, H, W) to features (B, C, h, w)."""


@torch.no_grad()
def evaluate_semantics(
    model: Autoencoder, target: Target, twin: Frozen, samples: Samples, images: int, batch_size: int, world: World
) -> dict[str, float]:
    """Means over `images` held-out samples, spread over the split and shared out over all processes.

    Returns:
        `val/semantic`, the squared error per value, and `val/cosine`, the mean over positions; `_random` behind each
        where the network has random weights.
    """
    ids = spread(images, samples)[world.rank :: world.size]
    sums = torch.zeros(3, dtype=torch.float64, device=world.device)
    for start in range(0, len(ids), batch_size):
        x_B3HW = to_model_input(torch.from_numpy(samples.read(ids[start : start + batch_size])), world.device)
        squares, cosine = agreement(model.semantics(model.encode(x_B3HW)), target(x_B3HW))
        sums += len(x_B3HW) * torch.stack([squares, cosine, torch.ones_like(squares)]).double()
    squares_sum, cosine_sum, count = world.sum(sums).tolist()
    found = {"semantic": squares_sum / count, "cosine": cosine_sum / count}
    return {f"val/{twin.term(name)}": value for name, value in found.items()}


@torch.no_grad()
def save_features(
    model: Autoencoder, target: Target, samples: Samples, count: int, device: torch.device, path: Path
) -> None:
    """Write originals, the frozen network's features and the decoded ones below each other as one PNG.

    Features are shown by their three principal directions, those of the frozen ones, as red, green and blue.
    """
    x_B3HW = to_model_input(torch.from_numpy(samples.read(spread(count, samples))), device)
    wanted_BChw, made_BChw = target(x_B3HW).float(), model.semantics(model.encode(x_B3HW)).float()
    vectors_NC = wanted_BChw.movedim(1, -1).flatten(0, -2)
    mean_C = vectors_NC.mean(0)
    directions_CK = torch.linalg.svd(vectors_NC - mean_C, full_matrices=False).Vh[:3].mT
    seen_NK = (vectors_NC - mean_C) @ directions_CK
    low_K, high_K = seen_NK.amin(0), seen_NK.amax(0)
    rows = [to_8bit(x_B3HW.float().clamp(-1, 1))]
    for features_BChw in (wanted_BChw, made_BChw):
        shown_BhwK = (features_BChw.movedim(1, -1) - mean_C) @ directions_CK
        scaled_BKhw = ((shown_BhwK - low_K) / (high_K - low_K).clamp_min(1e-12) * 2 - 1).movedim(-1, 1).clamp(-1, 1)
        rows.append(to_8bit(torch.nn.functional.interpolate(scaled_BKhw, size=x_B3HW.shape[2:], mode="nearest")))
    write_grid(rows, path)
