"""From a file's bytes to pixels: one upright RGB array, or the reason why there is none.

JPEG in grey or colour goes through libjpeg-turbo (simplejpeg, accurate DCT, smooth chroma upsampling): the pixels are
PIL's, bit for bit, in two thirds of the time. Everything else goes through PIL. Colour profiles are not applied.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 150_000_000
"""An image with more pixels is refused as a decompression bomb (assumption: above nearly every camera of today,

and below the 179 million at which Pillow itself refuses)."""

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "JPEG2000", "AVIF")
"""What is tried, in this order; Pillow's other formats are drawings, documents and curiosities, or start programs."""

_DAMAGE = ("premature end", "bad huffman code", "bad arithmetic code", "instead of rst")
"""libjpeg's warnings (jerror.h) after which it invents pixels, mostly grey ones, in lower case."""

# Pillow remarks on large and on damaged files; here the one ends in an error or does not matter, and so does the other.
# Set once, as warnings.catch_warnings is not safe in threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


class UnreadableImageError(ValueError):
    """The bytes are not a usable image; the message says why."""


def decode(content: bytes) -> NDArray[np.uint8]:
    """Upright RGB pixels (H, W, 3), contiguous and writable, from a file's bytes.

    First frame; EXIF orientation applied; grey and palettes spread to RGB; CMYK converted; transparency over white;
    16-bit and float greys scaled to 0..255, of 16-bit colours the upper 8 bits.

    Raises:
        UnreadableImageError: empty, truncated, damaged, above MAX_PIXELS, or no image; nothing else is ever raised.
    """
    if not content:
        raise UnreadableImageError("the file is empty")
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)  # reads the header only
        if image.width * image.height > MAX_PIXELS:
            raise UnreadableImageError(f"{image.width} x {image.height} pixels are above the limit of {MAX_PIXELS}")
        if image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB"):
            pixels = _decode_jpeg(content)
            if pixels is not None:
                return _upright(pixels, image.getexif().get(ExifTags.Base.Orientation, 1))
        return np.array(_to_rgb(ImageOps.exif_transpose(image)))
    except UnreadableImageError:
        raise
    except UnidentifiedImageError:  # its own message holds a memory address
        raise UnreadableImageError("no image of a known format") from None
    except Exception as error:  # noqa: BLE001 - decoders of damaged files raise anything, down to struct.error
        raise UnreadableImageError(str(error) or type(error).__name__) from None


def _decode_jpeg(content: bytes) -> NDArray[np.uint8] | None:
    """The pixels as stored, or None where PIL shall decide; damage that libjpeg would paper over is refused."""
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            content, colorspace="RGB", fastdct=False, fastupsample=False, strict=True
        )
        return pixels
    except ValueError as error:  # strict: any warning of libjpeg; the harmless ones and rare layouts are left to PIL
        if any(damage in str(error).lower() for damage in _DAMAGE):
            raise UnreadableImageError(str(error)) from None
        return None


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    # EXIF 2.3, tag 0x0112: which edge of the scene the stored first row and first column are
    if orientation in (5, 6, 7, 8):  # row and column change places
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):  # PIL's own conversion would clip at 255
        return Image.fromarray(_grey_to_8_bits(np.asarray(image, np.float64), image.mode)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _grey_to_8_bits(values: NDArray[np.float64], mode: str) -> NDArray[np.uint8]:
    highest = values.max()
    if not np.isfinite(highest):  # a NaN anywhere makes the maximum NaN
        raise UnreadableImageError("some pixels are no finite numbers")
    # "I;16" says its range; 32-bit files do not, and hold 16-bit, 8-bit or (floats) 0..1 values
    top = 1.0 if mode == "F" and highest <= 1 else 255.0
    if mode.startswith("I;16") or highest > 255:
        top = 65535.0
    return (values.clip(0, top) * (255.0 / top)).round().astype(np.uint8)
