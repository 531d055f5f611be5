"""From a file's bytes to pixels: one upright RGB array, or the reason why there is none.

JPEG in grey or colour goes through libjpeg-turbo (simplejpeg, accurate DCT, smooth chroma upsampling): the pixels are
PIL's, bit for bit, in two thirds of the time. Everything else goes through PIL, and from PIL's image into the array
tile by tile: a decode takes the two and a constant, whatever the mode. Colour profiles are not applied.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

MAX_PIXELS = 150_000_000
"""An image with more pixels is refused as a decompression bomb (assumption: above nearly every camera of today,

and below the 179 million at which Pillow itself refuses)."""

MAX_DECODED_BYTES = 3 * 2**29
"""What a decode may take beside the file's bytes (assumption: a core has 2 GiB, a Ray worker with torch needs 0.5)."""

UNPACKING = {"WEBP": 12, "JPEG2000": 16, "AVIF": 8}
"""Bytes per pixel that decoders hold beside PIL's image (peak memory of decodes of 9 million pixels, Pillow 13.0)."""

TILE = 512
"""Side of the squares in which pixels are converted: 2 MB as doubles, a few of which are held (assumption)."""

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
        UnreadableImageError: empty, truncated, damaged, above MAX_PIXELS or MAX_DECODED_BYTES, or no image; nothing
            else is ever raised.
    """
    if not content:
        raise UnreadableImageError("the file is empty")
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)  # reads the header only
        if image.width * image.height > MAX_PIXELS:
            raise UnreadableImageError(f"{image.width} x {image.height} pixels are above the limit of {MAX_PIXELS}")
        if (needed := _decoded_bytes(image)) > MAX_DECODED_BYTES:
            raise UnreadableImageError(
                f"{image.width} x {image.height} pixels ({image.format}, {image.mode}) take {needed} bytes to decode, "
                f"above the limit of {MAX_DECODED_BYTES}"
            )
        if image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB"):
            pixels = _decode_jpeg(content)
            if pixels is not None:
                return _upright(pixels, image.getexif().get(ExifTags.Base.Orientation, 1))
        image.load()
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        pixels = _to_array(image)
        del image  # turning copies the array: two of them are enough
        return _upright(pixels, orientation)
    except UnreadableImageError:
        raise
    except UnidentifiedImageError:  # its own message holds a memory address
        raise UnreadableImageError("no image of a known format") from None
    except Exception as error:  # noqa: BLE001 - decoders of damaged files raise anything, down to struct.error
        raise UnreadableImageError(str(error) or type(error).__name__) from None


def _decoded_bytes(image: Image.Image) -> int:
    """About the most memory that decoding takes at once: PIL's image with its decoder's buffers, or with the array."""
    stored = 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else 4
    unpacking = UNPACKING.get(image.format or "", 0)
    if image.format == "TIFF":  # at worst it is one strip, unpacked as a whole
        bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))  # type: ignore[attr-defined]
        unpacking = -(-max(bits) * len(image.getbands()) // 8)
    elif "progressive" in image.info:  # libjpeg keeps the coefficients of all scans, 16 bits each
        unpacking = 2 * len(image.getbands())
    return image.width * image.height * (stored + max(3, unpacking))


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


def _to_array(image: Image.Image) -> NDArray[np.uint8]:
    """A loaded image as RGB."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    is_grey = image.mode.startswith("I;16") or image.mode in ("I", "F")  # PIL's own conversion would clip at 255
    top = _top_of_grey(image) if is_grey else None
    for box in _tiles(image):
        tile = image.crop(box)
        if top is not None:
            values = np.asarray(tile, np.float64)[..., None]
            part = (values.clip(0, top) * (255.0 / top)).round().astype(np.uint8)
        else:
            part = np.asarray(_to_rgb(tile))
        pixels[box[1] : box[3], box[0] : box[2]] = part
    return pixels


def _tiles(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """The boxes (left, top, right, bottom) that make up an image."""
    for top in range(0, image.height, TILE):
        for left in range(0, image.width, TILE):
            yield left, top, min(left + TILE, image.width), min(top + TILE, image.height)


def _to_rgb(image: Image.Image) -> Image.Image:
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _top_of_grey(image: Image.Image) -> float:
    """The value that becomes 255. "I;16" says its range; 32-bit files do not, and hold 16-bit, 8-bit or 0..1 values."""
    highest = np.max([np.asarray(image.crop(box), np.float64).max() for box in _tiles(image)])
    if not np.isfinite(highest):  # a NaN anywhere makes the maximum NaN
        raise UnreadableImageError("some pixels are no finite numbers")
    if image.mode.startswith("I;16") or highest > 255:
        return 65535.0
    return 1.0 if image.mode == "F" and highest <= 1 else 255.0
