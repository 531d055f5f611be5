"""JPEGs that libjpeg reads with a warning: those that miss data are refused, those that miss none are read."""

import io
import random
import struct

import numpy as np
import pytest
from PIL import Image

from transvae_platform.data.pixels import jpeg
from transvae_platform.data.pixels.decode import UnreadableImageError, decode

END = b"\xff\xd9"
MODES = ("L", "RGB", "CMYK")


def cut(content, share=0.5):
    """The data of the longest scan, ended early and closed properly: decoders fill the rest with grey."""
    scans = [place for place in range(len(content)) if content[place : place + 2] == b"\xff\xda"]
    length, start = max((stop - start, start) for start, stop in zip(scans, [*scans[1:], len(content)], strict=True))
    return content[: start + 20 + int((length - 20) * share)] + END


def odd_version(content):
    assert b"JFIF\0\x01" in content
    return content.replace(b"JFIF\0\x01", b"JFIF\0\x07", 1)


def odd_adobe(content):
    place = content.index(b"Adobe") + 11
    return content[:place] + b"\x07" + content[place + 1 :]


def odd_scan(content):
    place = content.index(b"\xff\xda")
    place += 2 + int.from_bytes(content[place + 2 : place + 4])
    return content[: place - 3] + b"\0\0\0" + content[place:]


def odd_profile(content):
    body = b"ICC_PROFILE\0\x09\x02broken"
    return content[:2] + b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body + content[2:]


def odd_gap(content):
    """A text segment that is longer than it says."""
    return content[:2] + b"\xff\xfe\0\x04abcdefgh" + content[2:]


def padded(content):
    return content[:-2] + b"\0" * 999 + END


def segment(marker, body):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def rare_jpeg(factors, width=160, height=96):
    """A JPEG of random flat blocks whose components have any sampling factors (horizontal, vertical)."""
    columns, rows = (8 * max(factor[axis] for factor in factors) for axis in (0, 1))
    units, choose, bits = -(-width // columns) * -(-height // rows), random.Random(0), ""
    for across, down in factors * units:
        for _ in range(across * down):  # a step of 2 or 3 up or down in four bits of category and two of step, no more
            bits += "0010" + choose.choice(["00", "01", "10", "11"]) + "0"
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\0")
    components = b"".join(bytes([number, across << 4 | down, 0]) for number, (across, down) in enumerate(factors, 1))
    frame = segment(0xC0, struct.pack(">BHHB", 8, height, width, len(factors)) + components)
    steps = segment(0xC4, b"\0" + bytes([0, 0, 0, 12]) + bytes(12) + bytes(range(12)))
    ends = segment(0xC4, b"\x10\1" + bytes(15) + b"\0")
    chosen = b"".join(bytes([number, 0]) for number in range(1, len(factors) + 1))
    scan = segment(0xDA, bytes([len(factors)]) + chosen + b"\0\x3f\0")
    return b"\xff\xd8" + segment(0xDB, b"\0" + b"\x08" * 64) + frame + steps + ends + scan + data + END


RARE = [[(2, 1), (1, 2), (1, 1)], [(3, 1), (1, 1), (1, 1)], [(1, 1), (2, 2), (1, 1)]]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("mode", MODES)
def test_cut_file_with_an_end_marker_is_unreadable(noise, encode, mode, options):
    content = encode(noise(80, 60).convert(mode), "JPEG", **options)
    decode(content)
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(UnreadableImageError, match="Corrupt JPEG data"):
            decode(cut(content, share))


@pytest.mark.parametrize(
    ("make_odd", "mode"),
    [
        (odd_version, "RGB"), (odd_version, "L"), (odd_adobe, "CMYK"), (odd_scan, "RGB"), (odd_scan, "CMYK"),
        (odd_profile, "RGB"), (odd_profile, "CMYK"), (odd_gap, "RGB"), (padded, "RGB"), (padded, "CMYK"),
    ],
)  # fmt: skip
def test_remark_on_metadata_costs_no_pixel_and_hides_no_damage(noise, encode, make_odd, mode):
    content = encode(noise(80, 60).convert(mode), "JPEG")
    odd = make_odd(content)
    with pytest.raises(ValueError, match=r"."):  # libjpeg remarks on it, or the test shows nothing
        jpeg._strictly(odd, mode == "CMYK")
    if make_odd is odd_adobe:
        assert (decode(odd) == np.asarray(Image.open(io.BytesIO(odd)).convert("RGB"))).all()
    else:
        assert (decode(odd) == decode(content)).all()
    with pytest.raises(UnreadableImageError, match="premature end of data segment"):
        decode(make_odd(cut(content)))


@pytest.mark.parametrize("mode", MODES)
def test_bytes_missing_or_added_inside_the_scan_are_damage(noise, encode, mode):
    content = encode(noise(80, 60).convert(mode), "JPEG", quality=95)
    start = content.rindex(b"\xff\xda") + 20
    choose, unnoticed = random.Random(0), 0
    for _ in range(30):
        place, length = choose.randrange(start, len(content) - 400), choose.randrange(40, 300)
        gap, more = content[:place] + content[place + length :], content[:place] + b"\x12" * length + content[place:]
        for damaged in (gap, more):
            try:
                decode(damaged)
            except UnreadableImageError as error:
                assert "Corrupt JPEG data" in str(error)  # noqa: PT017 - of those that are noticed
            else:
                jpeg._strictly(damaged, mode == "CMYK")  # nothing is missing or left over: a valid file
                unnoticed += 1
    assert unnoticed < 15


def test_data_lost_to_zeros_are_damage(noise, encode):
    content = encode(noise(80, 60), "JPEG")
    start = content.rindex(b"\xff\xda") + 14
    for place in (start + 100, (start + len(content)) // 2, len(content) - 200):
        with pytest.raises(UnreadableImageError, match=r"."):
            decode(content[:place] + bytes(len(content) - place - 2) + END)


def test_markers_inside_a_thumbnail_mislead_nobody(noise, encode):
    exif = Image.Exif()
    exif[0x010E] = "thumbnail"
    inner = encode(noise(16, 16), "JPEG")
    content = encode(noise(80, 60), "JPEG", exif=b"Exif\0\0" + exif.tobytes()[6:] + inner)
    assert content.count(END) == 2
    assert (decode(padded(odd_version(content))) == decode(content)).all()
    with pytest.raises(UnreadableImageError):
        decode(odd_version(cut(content)))


@pytest.mark.parametrize("factors", RARE)
def test_rare_samplings_are_read_and_their_damage_noticed(factors):
    content = rare_jpeg(factors)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert expected.std() > 1
    assert (decode(content) == expected).all()
    assert (decode(content + b"trailing") == expected).all()
    for share in (0.2, 0.9):
        with pytest.raises(UnreadableImageError, match="ends before the last pixels"):
            decode(cut(content, share))
    with pytest.raises(UnreadableImageError, match=r"."):
        decode(cut(content)[:-2])
    start = content.index(b"\xff\xda") + 14
    with pytest.raises(UnreadableImageError, match="left over"):
        decode(content[:start] + content[start : start + 60] + content[start:])
