"""From a file's bytes to pixels: one upright RGB array, or the reason why there is none.

JPEG goes through libjpeg-turbo (`jpeg.py`; accurate DCT, smooth chroma upsampling): the pixels are PIL's, bit for bit,
in two thirds of the time. Everything else goes through PIL, and from PIL's image into the array tile by tile
(`rgb.py`): a decode takes the two and a constant, whatever the mode. Colour profiles are not applied.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from transvae_platform.data.pixels.jpeg import decode_jpeg
from transvae_platform.data.pixels.memory import enough_memory
from transvae_platform.data.pixels.png import png_to_rgb
from transvae_platform.data.pixels.rgb import to_rgb
from transvae_platform.errors import UnreachableError

MAX_PIXELS = 150_000_000
"""An image with more pixels is refused as a decompression bomb (assumption: above nearly every camera of today,

and below the 179 million at which Pillow itself refuses)."""

MAX_DECODED_BYTES = 3 * 2**29
"""What a decode may take beside the file's bytes (assumption: a core has 2 GiB, a Ray worker with torch needs 0.5)."""

UNPACKING = {"WEBP": 12, "JPEG2000": 16, "AVIF": 8}
"""Bytes per pixel that decoders hold beside PIL's image (peak memory of decodes of 9 million pixels, Pillow 13.0)."""

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "JPEG2000", "AVIF")
"""What is tried, in this order; Pillow's other formats are drawings, documents and curiosities, or start programs."""

# Pillow remarks on large and on damaged files; here the one ends in an error or does not matter, and so does the other.
# Set once, as warnings.catch_warnings is not safe in threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


class UnreadableImageError(ValueError):
    """The bytes are not a usable image; the message says why."""


def decode(content: bytes) -> NDArray[np.uint8]:
    """Upright RGB pixels (H, W, 3), contiguous and writable, from a file's bytes.

    First frame; EXIF orientation applied; grey and palettes spread to RGB; CMYK converted; transparency over white;
    greys of 16 bits and floats from 0 to 1 scaled to 0..255, of 16-bit colours the upper 8 bits.

    Raises:
        UnreadableImageError: empty, truncated, damaged, above MAX_PIXELS or MAX_DECODED_BYTES, or no image.
        UnreachableError: this machine's memory does not suffice; nothing else is ever raised.
    """
    if not content:
        raise UnreadableImageError("the file is empty")
    try:
        with enough_memory(f"decode an image of {len(content)} bytes"):
            return _decoded(content)
    except (UnreadableImageError, UnreachableError):
        raise
    except UnidentifiedImageError:  # its own message holds a memory address
        raise UnreadableImageError("no image of a known format") from None
    except Exception as error:  # noqa: BLE001 - decoders of damaged files raise anything, down to struct.error
        raise UnreadableImageError(str(error) or type(error).__name__) from None


def _decoded(content: bytes) -> NDArray[np.uint8]:
    image = Image.open(io.BytesIO(content), formats=FORMATS)  # reads the header only
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableImageError(f"{image.width} x {image.height} pixels are above the limit of {MAX_PIXELS}")
    if (needed := _decoded_bytes(image)) > MAX_DECODED_BYTES:
        raise UnreadableImageError(
            f"{image.width} x {image.height} pixels ({image.format}, {image.mode}) take {needed} bytes to decode, "
            f"above the limit of {MAX_DECODED_BYTES}"
        )
    if image.format in ("JPEG", "MPO"):
        pixels = decode_jpeg(content, is_cmyk=image.mode == "CMYK")
        if image.mode == "CMYK":
            pixels = to_rgb(Image.frombuffer("CMYK", image.size, pixels, "raw", "CMYK", 0, 1))
    else:
        pixels = png_to_rgb(image, content) if image.format == "PNG" else to_rgb(image)
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    del image  # turning copies the array: two of them are enough
    return _upright(pixels, orientation)


def _decoded_bytes(image: Image.Image) -> int:
    """About the most memory that decoding takes at once: PIL's image with its decoder's buffers, or with the array."""
    stored = 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else 4
    unpacking = UNPACKING.get(image.format or "", 0)
    if image.format == "TIFF":  # at worst it is one strip, unpacked as a whole
        bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))  # type: ignore[attr-defined]
        unpacking = -(-max(bits) * len(image.getbands()) // 8)
    elif image.format == "PNG" and image.mode == "RGB" and "transparency" in image.info:  # where the colour is
        unpacking = 4
    elif "progressive" in image.info:  # libjpeg keeps the coefficients of all scans, 16 bits each
        unpacking = 2 * len(image.getbands())
    return image.width * image.height * (stored + max(3, unpacking))


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    # EXIF 2.3, tag 0x0112: which edge of the scene the stored first row and first column are
    if orientation in (5, 6, 7, 8):  # row and column change places
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
