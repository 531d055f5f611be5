"""JPEGs through libjpeg-turbo, strictly: what it would paper over is damage.

After each of its warnings (jerror.h) libjpeg goes on, with invented pixels if need be, and only the first is told.
1. A file that decodes without a warning is sound.
2. One with a warning is decoded again without its metadata, without what lies between the segments of its header and
   without zeros before its end marker: an unknown JFIF version, a broken colour profile or padding cost no pixels, but
   hide what comes after. A warning that stays is damage, such as data that end early, or that are left over.
3. TurboJPEG refuses rare chroma samplings. PIL decodes them, and is told no warnings: there the pixels must not hang
   on what is put behind the data, as those of a cut file do, and must hang on the end of the data, as those of a file
   with a gap do not.
Nobody can notice a gap after which exactly as many blocks are left as there should be: JPEG has no checksums.
"""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

_START, _END = b"\xff\xd8", b"\xff\xd9"
_APP0, _APP14, _SOS = 0xE0, 0xEE, 0xDA
_METADATA = (*range(0xE0, 0xF0), 0xFE)  # APP0 to APP15, COM
_BARE = (0x00, 0x01, *range(0xD0, 0xD9), 0xFF)  # no segments: stuffing, TEM, RST0 to RST7, SOI, fill bytes
_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1), b"\xff\xc2"  # SOF0 and SOF1, SOF2
_JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"

_BEHIND = b"\x55" * 4096
"""Put behind the data: other coefficients than the zeros that libjpeg makes up."""
_LAST = 16
"""Bytes at the end of the data that decide some pixels: libjpeg holds up to 8 of them in its bit buffer."""

Pixels = NDArray[np.uint8]


def decode_jpeg(content: bytes, *, is_cmyk: bool) -> Pixels:
    """The pixels of the first image as they are stored: (H, W, 3) RGB, or (H, W, 4) inks, 255 for a full one.

    Inks are taken to be inverted, as Adobe stores them and PIL reads them.

    Raises:
        ValueError: the file is damaged; libjpeg's warning. PIL may raise other errors.
    """
    try:
        return _strictly(content, is_cmyk)
    except ValueError as error:
        if "subsampling" in str(error):
            return _by_pil(_essence(content, is_cmyk), is_cmyk)
    return _strictly(_essence(content, is_cmyk), is_cmyk)


def _strictly(content: bytes, is_cmyk: bool) -> Pixels:
    pixels: Pixels = simplejpeg.decode_jpeg(
        content, colorspace="CMYK" if is_cmyk else "RGB", fastdct=False, fastupsample=False, strict=True
    )
    return np.subtract(255, pixels, out=pixels) if is_cmyk else pixels


def _essence(content: bytes, is_cmyk: bool) -> bytes:
    """The file without what libjpeg remarks on although no pixel hangs on it."""
    parts, place, is_sequential = [_START], 2, False
    while (place := content.find(b"\xff", place)) >= 0 and place + 4 <= len(content):
        marker, stop = content[place + 1], place + 2 + int.from_bytes(content[place + 2 : place + 4])
        if marker in _BARE:
            place += 1 if marker == 0xFF else 2
            continue
        segment = content[place:stop]
        if marker == _SOS:
            data, end = _data(content, stop)
            # of sequential scans libjpeg ignores the last three bytes; one zero may belong to the last pixels
            parts += [segment[:-3] + b"\0\x3f\0" if is_sequential else segment, data.rstrip(b"\0"), b"\0", end]
            break
        is_sequential |= marker in _SEQUENTIAL
        if marker == _APP0 and segment[4:9] == b"JFIF\0":
            segment = _JFIF
        elif marker == _APP14 and segment[4:9] == b"Adobe" and segment[15:16] != b"\0":
            segment = segment[:15] + (b"\2" if is_cmyk else b"\1") + segment[16:]  # what unknown codes are taken for
        elif marker in _METADATA:
            segment = b""
        parts.append(segment)
        place = stop
    return b"".join(parts)


def _data(content: bytes, start: int) -> tuple[bytes, bytes]:
    """(what lies from here to the end marker, the end marker and what follows, nothing if there is none)."""
    end = content.find(_END, start)
    return (content[start:end], content[end:]) if end >= 0 else (content[start:], b"")


def _by_pil(content: bytes, is_cmyk: bool) -> Pixels:
    start = content.find(bytes([0xFF, _SOS]))
    data, end = _data(content, start)
    data = content[:start] + data
    pixels = _as_pil_says(content, is_cmyk)
    if not end or not np.array_equal(pixels, _as_pil_says(data + _BEHIND + end, is_cmyk)):
        raise ValueError("Corrupt JPEG data: it ends before the last pixels")
    is_progressive = _PROGRESSIVE in content[:start]  # their last scan may be without effect
    if not is_progressive and np.array_equal(pixels, _as_pil_says(data.rstrip(b"\0")[:-_LAST] + end, is_cmyk)):
        raise ValueError("Corrupt JPEG data: some are left over after the last pixels, others are missing")
    return pixels


def _as_pil_says(content: bytes, is_cmyk: bool) -> Pixels:
    return np.array(Image.open(io.BytesIO(content), formats=["JPEG"]).convert("CMYK" if is_cmyk else "RGB"))
