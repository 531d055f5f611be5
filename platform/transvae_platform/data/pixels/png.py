"""PNGs with one transparent colour (tRNS) and no alpha channel, where PIL compares it with other numbers than it means.

PIL spreads greys of 2 and 4 bits to 8 but leaves the colour as it is, and of 16-bit colours it keeps the upper bytes,
so that many colours look like the transparent one. It can be asked for the lower bytes too.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from transvae_platform.data.pixels.rgb import tiles, to_rgb


def png_to_rgb(image: ImageFile.ImageFile, content: bytes) -> NDArray[np.uint8]:
    """(H, W, 3) of an opened PNG, with what is transparent in white.

    Raises:
        ValueError: as `to_rgb`; PIL raises other errors for damage.
    """
    colour = image.info.get("transparency")
    depth = str(image.tile[0].args) if image.tile else ""
    if colour is None or depth not in ("L;2", "L;4", "RGB;16B"):
        return to_rgb(image)
    if depth != "RGB;16B":
        image.info["transparency"] = colour * (255 // (2 ** int(depth[2:]) - 1))
        return to_rgb(image)
    high, low = np.divmod(np.array(colour), 256)
    is_clear = _has_low_bytes(content, low)
    del image.info["transparency"]
    pixels = to_rgb(image)
    for left, top, right, bottom in tiles(image):
        part, clear = pixels[top:bottom, left:right], is_clear[top:bottom, left:right]
        part[clear & (part == high).all(-1)] = 255
    return pixels


def _has_low_bytes(content: bytes, low: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(H, W): where the lower bytes of 16-bit colours are these; PIL's rawmode for the other byte order keeps them."""
    image = Image.open(io.BytesIO(content), formats=["PNG"])
    image.tile = [tile._replace(args="RGB;16L") for tile in image.tile]
    found = np.empty((image.height, image.width), np.bool_)
    for left, top, right, bottom in tiles(image):
        found[top:bottom, left:right] = (np.asarray(image.crop((left, top, right, bottom))) == low).all(-1)
    return found
