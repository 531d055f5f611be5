"""A loaded PIL image as an array of RGB, tile by tile; what each mode's numbers mean does not hang on their values.

Greys of 16 bits are scaled by their range, 0 to 65535 (PIL brings those of a PGM there from the file's own maximum;
those of a TIFF have as many bits as it says, and may count from white to black),
and floats from the range that they are drawn in, 0 to 1. Numbers that say no range are refused: 32-bit and signed
integers, and floats elsewhere. Transparency is put over white.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

TILE = 512
"""Side of the squares in which pixels are converted: 2 MB as doubles, a few of which are held (assumption)."""

HALF_LEVEL = 0.5 / 255
"""By how much a float may miss the range 0 to 1: what becomes 0 or 255 in any case."""

Pixels = NDArray[np.uint8]


def to_rgb(image: Image.Image) -> Pixels:
    """(H, W, 3).

    Raises:
        ValueError: the pixels are numbers of no known range; PIL raises other errors for damage.
    """
    image.load()
    part = _converter(image)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for left, top, right, bottom in tiles(image):
        pixels[top:bottom, left:right] = part(image.crop((left, top, right, bottom)))
    return pixels


def tiles(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """The boxes (left, top, right, bottom) that make up an image."""
    for top in range(0, image.height, TILE):
        for left in range(0, image.width, TILE):
            yield left, top, min(left + TILE, image.width), min(top + TILE, image.height)


def _converter(image: Image.Image) -> Callable[[Image.Image], NDArray[Any]]:
    if image.mode == "F":
        return partial(_from_floats, ends=_ends(image, 1.0))
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return partial(_from_16_bits, ends=_ends(image, 65535.0))
    if image.mode == "I":
        raise ValueError("its integers of 32 bits, or with a sign, have no known range - save it with 8 or 16 bits")
    return _from_8_bits


def _ends(image: Image.Image, most: float) -> tuple[float, float]:
    """(black, white) as numbers."""
    if image.format != "TIFF":
        return 0.0, most
    tags = image.tag_v2  # type: ignore[attr-defined]
    if image.mode.startswith("I;16"):
        most = 2.0 ** max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))) - 1
    is_white_zero = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0  # PIL turns over those of 8 bits only
    return (most, 0.0) if is_white_zero else (0.0, most)


def _from_floats(tile: Image.Image, ends: tuple[float, float]) -> NDArray[Any]:
    values = np.asarray(tile, np.float64)
    lowest, highest = values.min(), values.max()
    if not np.isfinite(highest - lowest):  # a NaN anywhere makes both NaN
        raise ValueError("some pixels are no finite numbers")
    if lowest < -HALF_LEVEL or highest > 1 + HALF_LEVEL:
        raise ValueError(f"its floats reach from {lowest:g} to {highest:g}, those of an image are from 0 to 1")
    return _levels(values, ends)


def _from_16_bits(tile: Image.Image, ends: tuple[float, float]) -> NDArray[Any]:
    values = np.asarray(tile, np.float64)
    levels = _levels(values, ends)
    clear = tile.info.get("transparency")
    return levels if clear is None else np.where(values[..., None] == clear, np.uint8(255), levels)


def _levels(values: NDArray[np.float64], ends: tuple[float, float]) -> Pixels:
    """(H, W, 1) of (H, W) values between the ends, black and white."""
    black, white = ends
    values = (values - black) / (white - black)
    return (values.clip(0, 1) * 255).round().astype(np.uint8)[..., None]


def _from_8_bits(tile: Image.Image) -> NDArray[Any]:
    if "A" in tile.getbands() or "transparency" in tile.info:
        rgba = tile.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        tile = Image.alpha_composite(white, rgba)
    return np.asarray(tile.convert("RGB"))
