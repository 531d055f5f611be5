"""How a photograph becomes samples: decoding and the one crop geometry. Plain functions of bytes and settings.

HW: height and width; samples are uint8 RGB arrays of shape (n, R, R, 3) with R the resolution.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from transvae_platform.study.spec import CropsView, Data

MAX_PIXELS = 150_000_000
"""A photograph with more pixels is refused as a decompression bomb (assumption: above nearly every camera of today,

and below the 179 million at which Pillow itself refuses)."""


class UnreadableImageError(ValueError):
    """The bytes are not a usable image; the message says why."""


def decode_photograph(content: bytes) -> Image.Image:
    """An upright RGB image from a file's bytes (first frame, EXIF orientation applied, transparency over white).

    Raises:
        UnreadableImageError: empty, truncated, too large or no image.
    """
    if not content:
        raise UnreadableImageError("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS below decides
            image: Image.Image = Image.open(io.BytesIO(content))
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableImageError(f"{image.width} x {image.height} pixels are above the limit of {MAX_PIXELS}")
            image = ImageOps.exif_transpose(image)
            return _to_rgb(image)
    except UnreadableImageError:
        raise
    except Exception as error:  # noqa: BLE001 - decoders of damaged files raise anything, down to struct.error
        raise UnreadableImageError(str(error) or type(error).__name__) from None


def cut_samples(image: Image.Image, data: Data, sha256: str) -> NDArray[np.uint8]:
    """The samples of one photograph, a pure function of its pixels, its hash and the settings.

    Raises:
        UnreadableImageError: the photograph is smaller than one sample.
    """
    if min(image.size) < data.resolution:
        raise UnreadableImageError(
            f"{image.width} x {image.height} is smaller than the sample size {data.resolution} x {data.resolution}"
        )
    if isinstance(data.view, CropsView):
        return _random_crops(image, data.resolution, data.view, int(sha256[:15], 16) ^ data.seed)
    return centre_crop(image, data.resolution)[None]


def centre_crop(image: Image.Image, resolution: int) -> NDArray[np.uint8]:
    """Shorter side to `resolution` by antialiased bicubic, then the central square: (R, R, 3) uint8."""
    scale = resolution / min(image.size)
    width, height = (max(resolution, round(side * scale)) for side in image.size)
    left, top = (width - resolution) // 2, (height - resolution) // 2
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + resolution, top + resolution)))


def _random_crops(image: Image.Image, resolution: int, view: CropsView, seed: int) -> NDArray[np.uint8]:
    # a scale at which the photograph is smaller than a sample is lifted to the smallest one that fits
    shortest = min(image.size)
    scaled = []
    for scale in view.scales:
        factor = max(scale, resolution / shortest)
        size = tuple(max(resolution, round(side * factor)) for side in image.size)
        scaled.append(np.asarray(image.resize((size[0], size[1]), Image.Resampling.BICUBIC) if factor < 1 else image))
    random = np.random.Generator(np.random.PCG64(seed))
    crops = np.empty((view.per_photograph, resolution, resolution, 3), np.uint8)
    for index, which in enumerate(random.integers(len(scaled), size=view.per_photograph)):
        height, width, _ = scaled[which].shape
        top = random.integers(height - resolution + 1)
        left = random.integers(width - resolution + 1)
        crops[index] = scaled[which][top : top + resolution, left : left + resolution]
    return crops


def _white(mode: str, highest: float) -> float:
    # "I;16" says its range; 32-bit files do not, and hold 16-bit, 8-bit or (floats) 0..1 values
    if mode.startswith("I;16") or highest > 255:
        return 65535.0
    return 1.0 if mode == "F" and highest <= 1 else 255.0


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):  # 16-bit greys: PIL's own conversion would clip at 255
        values = np.asarray(image, np.float64)
        top = _white(image.mode, values.max())
        return Image.fromarray((values.clip(0, top) * (255.0 / top)).round().astype(np.uint8)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")
