"""Decoding every kind of file people have, bit for bit as PIL where two decoders share the work; refusing the rest."""

import contextlib
import io
import random
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps
from skimage import data as photographs

from transvae_platform.data.pixels import decode as module
from transvae_platform.data.pixels import jpeg, rgb
from transvae_platform.data.pixels.decode import UnreadableImageError, decode
from transvae_platform.errors import UnreachableError


def solid(mode, colour, size=(20, 16)):
    return Image.new(mode, size, colour)


def by_pil(content):
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB"))


@pytest.fixture(scope="module")
def cat():
    return Image.fromarray(photographs.chelsea())


@pytest.fixture
def no_pil(monkeypatch):
    """Fails the test where PIL would decode."""
    monkeypatch.setattr(module, "to_rgb", lambda image: pytest.fail("decoded by PIL"))
    monkeypatch.setattr(jpeg, "_as_pil_says", lambda *_: pytest.fail("decoded by PIL"))


@pytest.fixture
def no_turbo(monkeypatch):
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *_, **__: pytest.fail("decoded by simplejpeg"))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}, {"restart_marker_blocks": 3}])
def test_fast_path_is_pil_bit_for_bit(cat, encode, no_pil, mode, subsampling, options):
    for width, height in [(300, 225), (333, 100), (17, 31), (1, 1), (9, 8)]:
        part = cat.crop((0, 0, width, height)).convert(mode)
        for quality in (30, 90, 100):
            content = encode(part, "JPEG", quality=quality, subsampling=subsampling, **options)
            got = decode(content)
            assert got.shape == (height, width, 3)
            assert (got == by_pil(content)).all()


def test_jpeg_that_stores_rgb_and_pictures_with_several_images_are_pil_bit_for_bit(cat, encode, no_pil):
    frames = [cat.crop((0, 0, 40, 30)), cat.crop((40, 0, 80, 30))]
    multi = encode(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(multi)).format == "MPO"
    for content in (encode(frames[0], "JPEG", keep_rgb=True), multi):
        assert (decode(content) == by_pil(content)).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(cat, encode, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(cat.crop((50, 50, 98, 82)), kind, exif=exif)
    upright = decode(content)
    assert upright.shape == ((48, 32, 3) if orientation >= 5 else (32, 48, 3))
    assert (upright == by_pil(content)).all()
    assert upright.flags.c_contiguous
    assert upright.flags.writeable


def test_orientation_from_xmp_is_applied(cat, encode):
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    content = encode(cat.crop((0, 0, 48, 32)), "JPEG", xmp=xmp)
    assert decode(content).shape == (48, 32, 3)
    assert (decode(content) == by_pil(content)).all()


@pytest.mark.parametrize(
    ("mode", "colour", "kind", "expected"),
    [
        ("CMYK", (0, 255, 255, 0), "JPEG", (255, 0, 0)),
        ("CMYK", (0, 255, 255, 0), "TIFF", (255, 0, 0)),
        ("L", 77, "PNG", (77, 77, 77)),
        ("L", 77, "JPEG", (77, 77, 77)),
        ("1", 1, "PNG", (255, 255, 255)),
        ("I;16", 65535, "PNG", (255, 255, 255)),
        ("I;16", 32896, "PNG", (128, 128, 128)),
        ("I;16", 200, "PNG", (1, 1, 1)),  # dark is dark, not an 8-bit picture
        ("I;16", 65535, "TIFF", (255, 255, 255)),
        ("F", 0.5, "TIFF", (128, 128, 128)),
        ("F", 0.002, "TIFF", (1, 1, 1)),
        ("F", 1.001, "TIFF", (255, 255, 255)),  # as resizing leaves them
        ("F", -0.001, "TIFF", (0, 0, 0)),
        ("RGBA", (10, 20, 30, 255), "PNG", (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), "PNG", (255, 255, 255)),
        ("RGBA", (0, 0, 0, 128), "PNG", (127, 127, 127)),
        ("LA", (0, 0), "PNG", (255, 255, 255)),
        ("RGBA", (10, 20, 30, 0), "WEBP", (255, 255, 255)),
        ("RGB", (10, 20, 30), "JPEG2000", (10, 20, 30)),
        ("RGB", (10, 20, 30), "BMP", (10, 20, 30)),
        ("RGB", (10, 20, 30), "PPM", (10, 20, 30)),
    ],
)
def test_every_mode_becomes_rgb(encode, mode, colour, kind, expected):
    options = {"lossless": True} if kind == "WEBP" else {}
    got = decode(encode(solid(mode, colour), kind, **options))
    assert got.shape == (16, 20, 3)
    assert got.dtype == np.uint8
    assert got.flags.writeable
    assert np.abs(got.astype(int) - expected).max() <= 1


def test_cmyk_and_ycck_jpeg_with_adobes_inverted_inks(cat, encode):
    red = np.full((16, 24, 4), (0, 255, 255, 0), np.uint8)
    plain = encode(Image.fromarray(red, "CMYK"), "JPEG", quality=95)
    inverted = np.ascontiguousarray(255 - red)  # as Adobe stores inks
    ycck = simplejpeg.encode_jpeg(inverted, colorspace="CMYK", quality=95, colorsubsampling="444")
    for content, space in ((plain, "CMYK"), (ycck, "YCCK")):
        assert simplejpeg.decode_jpeg_header(content)[2] == space
        assert np.abs(decode(content).astype(int) - (255, 0, 0)).max() <= 2
    inks = cat.convert("CMYK")
    for content in (
        encode(inks, "JPEG"),
        encode(inks, "JPEG", progressive=True, subsampling="4:2:0"),
        simplejpeg.encode_jpeg(np.asarray(inks), colorspace="CMYK"),
    ):
        assert (decode(content) == by_pil(content)).all()


@pytest.mark.parametrize(("channels", "colour_type"), [(3, 2), (4, 6)])
def test_16_bit_colours_are_scaled_not_clipped(channels, colour_type):
    values = np.zeros((4, 3, channels), ">u2")
    values[:] = (65535, 32896, 200, 65535)[:channels]

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    lines = b"".join(b"\0" + line.tobytes() for line in values)
    header = struct.pack(">IIBBBBB", 3, 4, 16, colour_type, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    assert np.abs(decode(png).astype(int) - (255, 128, 1)).max() <= 1


def test_palette_with_a_transparent_colour_is_over_white(encode):
    image = solid("P", 0)
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.paste(1, (0, 0, 10, 16))
    assert decode(encode(image))[0, [0, -1]].tolist() == [[0, 0, 200], [200, 0, 0]]
    assert decode(encode(image, transparency=0))[0, [0, -1]].tolist() == [[0, 0, 200], [255, 255, 255]]


def test_animation_gives_its_first_frame(encode):
    frames = [solid("RGB", colour) for colour in [(255, 0, 0), (0, 255, 0)]]
    for kind in ("GIF", "WEBP", "PNG"):
        got = decode(encode(frames[0], kind, save_all=True, append_images=frames[1:], duration=40))
        assert np.abs(got.astype(int) - (255, 0, 0)).max() < 8


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_truncated_file_is_unreadable(noise, encode, kind):
    content = encode(noise(), kind)
    decode(content)
    for length in (3, len(content) // 3, 2 * len(content) // 3):
        with pytest.raises(UnreadableImageError, match=r"."):
            decode(content[:length])


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_jpeg_that_ends_early_anywhere_is_unreadable(noise, encode, options):
    content = encode(noise(), "JPEG", quality=90, **options)
    for length in range(1, len(content), 7):
        with pytest.raises(UnreadableImageError):
            decode(content[:length])
    start = content.rindex(b"\xff\xda")  # the last scan, cut and closed properly, which PIL fills with grey
    with pytest.raises(UnreadableImageError, match="Corrupt JPEG data"):
        decode(content[: start + (len(content) - start) // 2] + b"\xff\xd9")


def test_harmless_oddities_of_jpegs_are_read(noise, encode):
    content = encode(noise(), "JPEG")
    expected = decode(content)
    odd_version = content.replace(b"JFIF\0\x01", b"JFIF\0\x07", 1)  # "unknown JFIF revision number": PIL decodes
    for strange in (content + b"trailing" * 9, content[:-2] + b"\0\0" + content[-2:], odd_version):
        assert strange != content
        assert (decode(strange) == expected).all()


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 500, b"<html>404</html>", b"\xff\xd8\xff", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe"]
)
def test_no_image_is_unreadable_and_says_why_without_an_address(content):
    with pytest.raises(UnreadableImageError) as caught:
        decode(content)
    assert str(caught.value)
    assert "0x" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning")  # PIL's remarks; pytest lifts the module's own filter
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM"])
def test_damaged_bytes_give_an_image_or_one_kind_of_error(noise, encode, kind):
    choose = random.Random(kind)
    content = encode(noise(), kind, **({"exif": Image.Exif()} if kind == "JPEG" else {}))
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(choose.choice([1, 4, 16])):
            damaged[choose.randrange(min(len(damaged), choose.choice([64, 1 << 20])))] = choose.randrange(256)
        with contextlib.suppress(UnreadableImageError):
            assert decode(bytes(damaged)).shape[2] == 3


@pytest.mark.parametrize("error", [struct.error("argument is not an integer"), TypeError("bad operand"), KeyError(7)])
def test_whatever_a_decoder_raises_is_an_unreadable_image(encode, noise, monkeypatch, error):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr(Image.Image, "getexif", broken)  # seen with damaged EXIF blocks
    for kind in ("JPEG", "PNG"):
        with pytest.raises(UnreadableImageError, match=r"."):
            decode(encode(noise(), kind))


def test_pixels_that_are_no_numbers_are_unreadable(encode):
    for value in (float("nan"), float("inf")):
        values = np.zeros((8, 8), np.float32)
        values[3, 3] = value
        with pytest.raises(UnreadableImageError, match="no finite numbers"):
            decode(encode(Image.fromarray(values), "TIFF"))


def test_numbers_without_a_known_range_are_unreadable(encode):
    for values in (np.float32([[0, 51]]), np.float32([[-0.1, 1]]), np.float32([[0, 1.1]])):
        with pytest.raises(UnreadableImageError, match=r"its floats reach from .* those of an image are from 0 to 1"):
            decode(encode(Image.fromarray(values), "TIFF"))
    for low in (np.int32(0), np.int32(-5)):
        with pytest.raises(UnreadableImageError, match="its integers of 32 bits, or with a sign, have no known range"):
            decode(encode(Image.fromarray(np.array([[low, 255]], np.int32)), "TIFF"))
    assert decode(b"Pf\n2 1\n-1.0\n" + np.float32([0, 0.5]).tobytes())[0, :, 0].tolist() == [0, 128]


@pytest.mark.parametrize(("top", "values"), [(65535, (0, 200, 257, 65535)), (1023, (0, 1, 4, 1023)), (256, (0, 1, 2))])
def test_grey_maps_are_scaled_by_their_own_maximum(top, values):
    wide = b"P5 %d 1 %d\n" % (len(values), top) + np.array(values, ">u2").tobytes()
    plain = b"P2 %d 1 %d\n" % (len(values), top) + b" ".join(b"%d" % value for value in values)
    dark = b"P5 2 1 %d\n" % top + np.array(values[:2], ">u2").tobytes()  # no bright pixel says how dark it is
    expected = [value * 255 / top for value in values]
    for content, shown in ((wide, expected), (plain, expected), (dark, expected[:2])):
        assert np.abs(decode(content)[0, :, 0] - shown).max() <= 0.51


def png(values, depth, colour_type, transparent):
    """A PNG of numbers of any depth with a transparent one."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    lines = b""
    for line in np.array(values):
        bits = "".join(format(value, f"0{depth}b") for value in line.ravel().tolist())
        bits += "0" * (-len(bits) % 8)
        lines += b"\0" + int(bits, 2).to_bytes(len(bits) // 8)
    header = struct.pack(">IIBBBBB", len(values[0]), len(values), depth, colour_type, 0, 0, 0)
    clear = np.array(transparent, ">u2").tobytes()
    pixels = chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"tRNS", clear) + pixels


@pytest.mark.parametrize(
    ("depth", "values", "transparent", "expected"),
    [
        (1, [0, 1], 0, [255, 255]), (2, [0, 1, 2], 1, [0, 255, 170]), (4, [0, 7, 8], 7, [0, 255, 136]),
        (8, [0, 7, 8], 7, [0, 255, 8]), (16, [0, 300, 301, 257], 300, [0, 255, 1, 1]),
    ],
)  # fmt: skip
def test_one_transparent_grey_is_over_white(depth, values, transparent, expected):
    assert decode(png([values], depth, 0, transparent))[0, :, 0].tolist() == expected


def test_one_transparent_colour_of_16_bits_is_only_that_one(monkeypatch):
    colours = [[1000, 2000, 3000], [1001, 2000, 3000], [1000, 2000, 2999], [0, 0, 3000]]
    content = png([colours, colours[::-1]], 16, 2, colours[0])
    white, *others = ([255, 255, 255], [3, 7, 11], [3, 7, 11], [0, 0, 11])
    for tile in (512, 2):
        monkeypatch.setattr(rgb, "TILE", tile)
        assert decode(content).tolist() == [[white, *others], [*others[::-1], white]]
    black = png([[[0, 0, 0], [0, 0, 1]]], 16, 2, [0, 0, 0])  # below 256, where PIL would compare upper bytes
    assert decode(black)[0].tolist() == [[255, 255, 255], [0, 0, 0]]
    assert decode(png([[[1, 2, 3], [1, 2, 4]]], 8, 2, [1, 2, 3]))[0].tolist() == [[255, 255, 255], [1, 2, 4]]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_decompression_bomb_is_refused_before_it_is_unpacked(encode, noise, monkeypatch, no_turbo, no_pil, kind):
    content = encode(noise(40, 30), kind)
    monkeypatch.setattr(module, "MAX_PIXELS", 40 * 30 - 1)
    with pytest.raises(UnreadableImageError, match="40 x 30 pixels are above the limit of 1199"):
        decode(content)
    huge = bytearray(encode(solid("1", 0), "PNG"))
    huge[16:24] = struct.pack(">II", 60_000, 60_000)
    huge[29:33] = struct.pack(">I", zlib.crc32(bytes(huge[12:29])))
    with pytest.raises(UnreadableImageError, match="3600000000"):
        decode(bytes(huge))


@pytest.mark.parametrize(
    ("mode", "colour", "kind", "per_pixel"),
    [
        ("1", 0, "PNG", 4), ("L", 0, "PNG", 4), ("I;16", 0, "PNG", 5), ("RGB", (0, 0, 0), "PNG", 7),
        ("I;16", 0, "TIFF", 5), ("F", 0.0, "TIFF", 8), ("RGBA", (0, 0, 0, 0), "TIFF", 8),
        ("RGB", (0, 0, 0), "JPEG2000", 20), ("RGB", (0, 0, 0), "WEBP", 16), ("RGB", (0, 0, 0), "JPEG", 7),
    ],
)  # fmt: skip
def test_memory_is_bounded_before_anything_is_unpacked(encode, monkeypatch, mode, colour, kind, per_pixel):
    content = encode(solid(mode, colour), kind)
    monkeypatch.setattr(module, "MAX_DECODED_BYTES", 20 * 16 * per_pixel)
    assert decode(content).shape == (16, 20, 3)
    monkeypatch.setattr(module, "MAX_DECODED_BYTES", 20 * 16 * per_pixel - 1)
    monkeypatch.setattr(Image.Image, "crop", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(UnreadableImageError, match=rf"20 x 16 pixels .* take {320 * per_pixel} bytes to decode, above"):
        decode(content)


def test_progressive_jpegs_count_with_their_coefficients(cat, encode, monkeypatch):
    monkeypatch.setattr(module, "MAX_DECODED_BYTES", 451 * 300 * 9)
    decode(encode(cat, "JPEG"))
    with pytest.raises(UnreadableImageError, match="take 1353000 bytes to decode"):
        decode(encode(cat, "JPEG", progressive=True))


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "I;16"), ("TIFF", "F"), ("PNG", "RGBA"), ("TIFF", "RGB")])
def test_peak_of_a_decode_is_the_image_and_the_array(tmp_path, kind, mode):
    side, constant = 4096, 40_000_000  # bytes: tiles, as doubles and more than once
    values = (np.arange(side * side, dtype=np.uint32) * 2654435761 >> 16).astype(np.uint16).reshape(side, side)
    image = {
        "I;16": lambda: Image.fromarray(values),
        "F": lambda: Image.fromarray(values.astype(np.float32) / 65535),
        "RGB": lambda: Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB"),
        "RGBA": lambda: Image.fromarray((values >> 8).astype(np.uint8)).convert("RGBA"),
    }[mode]()
    assert image.mode == mode
    image.save(tmp_path / "image", kind, **({"compress_level": 1} if kind == "PNG" else {}))
    measure = """if True:
        import sys, warnings
        from transvae_platform.data.pixels.decode import decode

        def peak():
            return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024

        content = open(sys.argv[1], "rb").read()
        before = peak()
        decode(content)
        print(peak() - before)
    """
    answer = subprocess.run([sys.executable, "-c", measure, tmp_path / "image"], capture_output=True, check=True)
    expected = side * side * ((2 if mode == "I;16" else 4) + 3)
    assert int(answer.stdout) < expected + constant


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("I;16", "PNG", {}), ("I;16", "PNG", {"transparency": 25700}), ("F", "TIFF", {}), ("RGBA", "PNG", {}),
        ("LA", "PNG", {}), ("P", "PNG", {}), ("P", "PNG", {"transparency": 3}), ("P", "GIF", {"transparency": 3}),
        ("L", "BMP", {}),
        ("RGB", "PNG", {"transparency": (1, 2, 3)}), ("CMYK", "JPEG", {}), ("1", "PNG", {}),
    ],
)  # fmt: skip
def test_tiles_leave_no_trace(cat, encode, monkeypatch, mode, kind, options):
    image = cat.crop((0, 0, 61, 47))
    if mode in ("I;16", "F"):
        values = np.asarray(image.convert("L"), np.uint16) * 257
        image = Image.fromarray(values if mode == "I;16" else values.astype(np.float32) / 65535)
    else:
        image = image.convert(mode)
        if "A" in mode:
            image.putalpha(cat.crop((50, 50, 111, 97)).convert("L"))
    content = encode(image, kind, **options)
    whole = decode(content)
    monkeypatch.setattr(rgb, "TILE", 16)
    assert (decode(content) == whole).all()
    assert len(np.unique(whole)) > 1


@pytest.mark.parametrize(
    ("bits", "photometric", "stored", "level"),
    [(12, 1, b"\xff", 255), (12, 1, b"\x00", 0), (16, 0, b"\x00", 255), (16, 0, b"\xff", 0), (16, 1, b"\xff", 255)],
)
def test_grey_tiffs_are_scaled_by_their_bits_and_from_their_black(bits, photometric, stored, level):
    raw = stored * (8 * 8 * bits // 8)
    tags = [
        (256, 8),
        (257, 8),
        (258, bits),
        (259, 1),
        (262, photometric),
        (273, 122),
        (277, 1),
        (278, 8),
        (279, len(raw)),
    ]
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    content = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    assert (decode(content + raw) == level).all()


@pytest.mark.parametrize("error", [MemoryError(), ValueError("Insufficient memory (case 4)")])
def test_missing_memory_is_no_fault_of_the_image(monkeypatch, noise, encode, error):
    def full(*_, **__):
        raise error

    monkeypatch.setattr("transvae_platform.data.pixels.decode.png_to_rgb", full)
    monkeypatch.setattr("transvae_platform.data.pixels.jpeg._strictly", full)
    for kind in ("PNG", "JPEG"):
        with pytest.raises(UnreachableError, match="there is no memory to decode an image of"):
            decode(encode(noise(), kind))
