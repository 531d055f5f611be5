"""Random crops as a function of (seed, id, epoch): no generator, no state, the same in any batch on any worker."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from transvae_platform.data.pixels.geometry import resize
from transvae_platform.data.stream.hashing import Purpose, uniforms

TRIES = 10
"""Boxes drawn before the central one is taken, as in torchvision's RandomResizedCrop."""


def random_resized_crop(
    images_BHWC: NDArray[np.uint8],
    ids: NDArray[np.int64],
    epochs: NDArray[np.int64],
    seed: int,
    size: int,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> NDArray[np.uint8]:
    """A random part of every image, resized to (B, size, size, 3) by antialiased bicubic.

    `scale` is the range of the part's share of the area, `ratio` that of width / height (defaults: torchvision's).
    Unlike a geometry this may enlarge. The flip is not done here (`hashing.coin_flips`).

    Raises:
        ValueError: as many ids and epochs as images are needed.
    """
    count, height, width, channels = images_BHWC.shape
    if not len(ids) == len(epochs) == count:
        raise ValueError(f"{count} images need as many ids and epochs, not {len(ids)} and {len(epochs)}")
    boxes = crop_boxes(uniforms(Purpose.CROP, seed, ids, epochs, 2 * TRIES + 2), height, width, scale, ratio)
    crops = np.empty((count, size, size, channels), np.uint8)
    for crop, image, (top, left, rows, columns) in zip(crops, images_BHWC, boxes.tolist(), strict=True):
        crop[:] = resize(image[top : top + rows, left : left + columns], size, size)
    return crops


def resize_all(images_BHWC: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Whole images, to (B, size, size, 3) by antialiased bicubic; those of that size as they are."""
    if images_BHWC.shape[1:3] == (size, size):
        return images_BHWC
    return np.stack([resize(image, size, size) for image in images_BHWC])


def crop_boxes(
    draws: NDArray[np.float64], height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> NDArray[np.int64]:
    """(B, 4) boxes (top, left, height, width) from (B, 2 * TRIES + 2) uniforms, by torchvision's rule.

    The first of TRIES boxes that fits into the image, at a uniform place; if none does, the largest central box
    whose ratio is allowed.
    """
    areas = height * width * (scale[0] + (scale[1] - scale[0]) * draws[:, :TRIES])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    ratios = np.exp(low + (high - low) * draws[:, TRIES : 2 * TRIES])
    sides = np.stack([np.rint(np.sqrt(areas / ratios)), np.rint(np.sqrt(areas * ratios))])  # (2, B, TRIES)
    limits = np.array([height, width], np.float64)[:, None, None]
    fits = np.logical_and(sides >= 1, sides <= limits).all(axis=0)
    first = np.argmax(fits, axis=1)
    any_fits = np.any(fits, axis=1)[:, None]
    chosen = np.take_along_axis(sides, first[None, :, None], axis=2)[..., 0].T  # (B, 2)
    chosen = np.where(any_fits, chosen, _largest_allowed(height, width, ratio))
    room = limits[:, 0, 0] - chosen
    places = np.where(any_fits, np.floor(draws[:, 2 * TRIES :] * (room + 1)), room // 2)
    return np.concatenate([places, chosen], axis=1).astype(np.int64)


def _largest_allowed(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int]:
    if width / height < ratio[0]:
        return round(width / ratio[0]), width
    if width / height > ratio[1]:
        return height, round(height * ratio[1])
    return height, width
