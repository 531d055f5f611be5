"""How an image of any size becomes a square of R x R pixels: every rule has a name, and the manifest says which.

A crop that is two thirds of a pixel off scores 31 dB against the right one with the very same filter, so numbers can be
compared between data sets of the same geometry only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from transvae_platform.data.pixels.decode import MAX_PIXELS, UnreadableImageError
from transvae_platform.data.sets.manifest import TOO_SMALL

if TYPE_CHECKING:
    import torch

GEOMETRY_VERSION = 2
"""Goes up when any function below gives other pixels than before."""

Pixels = NDArray[np.uint8]


def resize(image: Pixels, height: int, width: int, mode: str = "bicubic") -> Pixels:
    """(H, W, 3) -> (height, width, 3), antialiased; for the same size the image itself.

    Within two levels of PIL's where nothing saturates between the two passes, whose order depends on the sizes.
    """
    if image.shape[:2] == (height, width):
        return image
    return _interpolate(_as_tensor(image), height, width, mode)


def shorter_side(image: Pixels, resolution: int) -> Pixels:
    """Shorter side to R by antialiased bicubic, long side rounded to nearest, floor-centred square: (R, R, 3)."""
    scale = resolution / min(image.shape[:2])
    height, width = (max(resolution, round(side * scale)) for side in image.shape[:2])
    return _cut(resize(image, height, width), (height - resolution) // 2, (width - resolution) // 2, resolution)


def adm(image: Pixels, resolution: int) -> Pixels:
    """The crop of ADM (guided-diffusion, `center_crop_arr`), of which LightningDiT's latents are made: (R, R, 3).

    Both sides are halved, rounding down, by a box filter while the shorter one is at least 2R; the rest is as in
    `shorter_side`. The halving is PIL's own: what its box filter does with an odd side hangs on how doubles round.
    """
    while min(image.shape[:2]) >= 2 * resolution:
        height, width = image.shape[:2]
        image = np.array(Image.fromarray(image).resize((width // 2, height // 2), Image.Resampling.BOX))
    return shorter_side(image, resolution)


def shorter_side_bilinear(image: Pixels, resolution: int) -> Pixels:
    """torchvision's `Resize(R)` + `CenterCrop(R)` on a float tensor, as in VA-VAE's evaluation: (R, R, 3).

    Long side truncated, offset rounded half to even, antialiased bilinear in float32, rounded to 8 bits at the end.
    """
    shortest = min(image.shape[:2])
    height, width = (int(resolution * side / shortest) for side in image.shape[:2])
    if image.shape[:2] != (height, width):
        # torch rounds uint8 between the two passes too, which moves one pixel in eight by a level. Floats stay within
        # 0..255, as the weights are positive; torch resizes them faster as planes than as channels_last.
        floats = _interpolate(_as_tensor(image).contiguous().float(), height, width, "bilinear")
        image = np.rint(floats).astype(np.uint8)
    top, left = (round((side - resolution) / 2.0) for side in (height, width))
    return _cut(image, top, left, resolution)


GEOMETRIES: dict[str, Callable[[Pixels, int], Pixels]] = {
    "shorter_side": shorter_side,
    "adm": adm,
    "shorter_side_bilinear": shorter_side_bilinear,
}
"""Name in a manifest -> function of ((H, W, 3) uint8, R) that gives (R, R, 3) uint8 of its own memory.

Each enlarges an image with a side below R, by its own filter; who wants none of those asks `refuse_small` first."""


def refuse_small(image: Pixels, resolution: int) -> None:
    """Raises UnreadableImageError where a side of the image is below R, with TOO_SMALL as the reason."""
    height, width = image.shape[:2]
    if min(height, width) < resolution:
        raise UnreadableImageError(f"{width} x {height} {TOO_SMALL} {resolution} x {resolution}")


def _as_tensor(image: Pixels) -> torch.Tensor:
    # (1, 3, H, W) over the memory of (H, W, 3). The batch axis comes first: only with its stride of a whole image does
    # torch take this for channels_last, for which it has a fast uint8 filter and gives (H, W, 3) memory back.
    import torch  # here and below: a plan needs no torch, which takes seconds to import

    if not image.flags.writeable or min(image.strides) < 0:  # torch shares neither
        image = image.copy()
    return torch.from_numpy(image)[None].permute(0, 3, 1, 2)


def _interpolate(x_BCHW: torch.Tensor, height: int, width: int, mode: str) -> NDArray[Any]:
    if height * width > MAX_PIXELS:  # a thin line that is enlarged
        was = f"{x_BCHW.shape[3]} x {x_BCHW.shape[2]}"
        raise UnreadableImageError(f"{was} resized to {width} x {height} pixels is above the limit of {MAX_PIXELS}")
    import torch.nn.functional as F

    resized = F.interpolate(x_BCHW, (height, width), mode=mode, antialias=True, align_corners=False)
    return resized[0].permute(1, 2, 0).numpy()


def _cut(image: Pixels, top: int, left: int, resolution: int) -> Pixels:
    return image[top : top + resolution, left : left + resolution].copy()
