"""Decoding every kind of file people have, refusing what is no image, and cutting samples."""

import contextlib
import random

import numpy as np
import pytest
from PIL import Image

from transvae_platform.data import views
from transvae_platform.data.views import UnreadableImageError, centre_crop, cut_samples, decode_photograph

SHA = "0123456789abcdef" * 4


def pixels(content):
    image = decode_photograph(content)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def solid(mode, colour, size=(20, 16)):
    return Image.new(mode, size, colour)


@pytest.mark.parametrize(
    ("orientation", "corner"), [(1, (0, 0)), (3, (-1, -1)), (6, (0, -1)), (8, (-1, 0)), (2, (0, -1))]
)
def test_exif_orientation_is_applied(encode, orientation, corner):
    image = solid("RGB", (0, 0, 0), (32, 16))
    image.paste((255, 255, 255), (0, 0, 8, 8))  # stored top left
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = pixels(encode(image, "JPEG", exif=exif, quality=95))
    assert upright.shape == ((32, 16, 3) if orientation in (6, 8) else (16, 32, 3))
    assert upright[corner].min() > 200
    assert upright.mean() < 60


@pytest.mark.parametrize(
    ("mode", "colour", "kind", "expected"),
    [
        ("CMYK", (0, 255, 255, 0), "JPEG", (255, 0, 0)),
        ("L", 77, "PNG", (77, 77, 77)),
        ("1", 1, "PNG", (255, 255, 255)),
        ("I;16", 65535, "PNG", (255, 255, 255)),
        ("I;16", 32896, "PNG", (128, 128, 128)),
        ("I;16", 200, "PNG", (1, 1, 1)),  # dark is dark, not an 8-bit picture
        ("F", 0.5, "TIFF", (128, 128, 128)),
        ("F", 51.0, "TIFF", (51, 51, 51)),
        ("I", 257, "TIFF", (1, 1, 1)),
        ("RGBA", (10, 20, 30, 255), "PNG", (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), "PNG", (255, 255, 255)),
        ("RGBA", (0, 0, 0, 128), "PNG", (127, 127, 127)),
        ("LA", (0, 0), "PNG", (255, 255, 255)),
        ("RGBA", (10, 20, 30, 0), "WEBP", (255, 255, 255)),
    ],
)
def test_every_mode_becomes_rgb(encode, mode, colour, kind, expected):
    options = {"lossless": True} if kind == "WEBP" else {}
    got = pixels(encode(solid(mode, colour), kind, **options))
    assert np.abs(got - expected).max() <= 1


def test_palette_with_a_transparent_colour_is_over_white(encode):
    image = solid("P", 0)
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.paste(1, (0, 0, 10, 16))
    assert pixels(encode(image))[0, [0, -1]].tolist() == [[0, 0, 200], [200, 0, 0]]
    assert pixels(encode(image, transparency=0))[0, [0, -1]].tolist() == [[0, 0, 200], [255, 255, 255]]


def test_animation_gives_its_first_frame(encode):
    frames = [solid("RGB", colour) for colour in [(255, 0, 0), (0, 255, 0)]]
    for kind in ("GIF", "WEBP"):
        got = pixels(encode(frames[0], kind, save_all=True, append_images=frames[1:], duration=40))
        assert np.abs(got - (255, 0, 0)).max() < 8


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_truncated_file_is_unreadable(noise, encode, kind):
    content = encode(noise(), kind)
    decode_photograph(content)
    for length in (3, len(content) // 3, 2 * len(content) // 3):
        with pytest.raises(UnreadableImageError, match=r"."):
            decode_photograph(content[:length])


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 500, b"<html>404</html>", b"\xff\xd8\xff", b"GIF89a", b"\x89PNG\r\n\x1a\n"]
)
def test_no_image_is_unreadable_and_says_why(content):
    with pytest.raises(UnreadableImageError) as caught:
        decode_photograph(content)
    assert str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning")  # PIL's remarks on damaged tags
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"])
def test_damaged_bytes_give_an_image_or_one_kind_of_error(noise, encode, kind):
    choose = random.Random(kind)
    content = encode(noise(), kind)
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(choose.choice([1, 4, 16])):
            damaged[choose.randrange(min(len(damaged), choose.choice([64, 1 << 20])))] = choose.randrange(256)
        with contextlib.suppress(UnreadableImageError):
            assert decode_photograph(bytes(damaged)).mode == "RGB"


def test_decompression_bomb_is_refused_before_it_is_unpacked(encode, noise, monkeypatch):
    content = encode(noise(40, 30))
    monkeypatch.setattr(views, "MAX_PIXELS", 40 * 30)
    decode_photograph(content)
    monkeypatch.setattr(views, "MAX_PIXELS", 40 * 30 - 1)
    monkeypatch.setattr(views, "_to_rgb", lambda image: pytest.fail("decoded"))
    with pytest.raises(UnreadableImageError, match="40 x 30 pixels are above the limit of 1199"):
        decode_photograph(content)


def test_photograph_smaller_than_a_sample_is_unreadable(noise, section):
    for size in [(40, 15), (15, 40)]:
        with pytest.raises(
            UnreadableImageError, match=f"{size[0]} x {size[1]} is smaller than the sample size 16 x 16"
        ):
            cut_samples(noise(*size), section(), SHA)
    assert cut_samples(noise(16, 16), section(), SHA).shape == (1, 16, 16, 3)


def test_centre_crop_without_resizing_keeps_the_pixels(noise):
    image = noise(256, 259)
    assert (centre_crop(image, 256) == np.asarray(image)[1:257]).all()
    image = noise(259, 256)
    assert (centre_crop(image, 256) == np.asarray(image)[:, 1:257]).all()


@pytest.mark.parametrize(
    ("size", "resized", "box"),
    [
        ((300, 451), (128, 192), (0, 32, 128, 160)),
        ((451, 300), (192, 128), (32, 0, 160, 128)),
        ((1000, 129), (992, 128), (432, 0, 560, 128)),
    ],
)
def test_centre_crop_geometry(noise, size, resized, box):
    image = noise(*size)
    expected = image.resize(resized, Image.Resampling.BICUBIC).crop(box)
    assert (centre_crop(image, 128) == np.asarray(expected)).all()


def test_centre_crop_keeps_the_middle_and_its_shape():
    image = solid("RGB", (0, 0, 0), (300, 440))
    image.paste((255, 255, 255), (100, 170, 200, 270))  # a square in the middle
    bright = centre_crop(image, 30)[..., 0] > 127
    rows, columns = np.nonzero(bright)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 19, 10, 19)


def test_crops_are_places_of_the_photograph_and_a_function_of_its_hash(noise, section):
    image = noise(64, 48)
    data = section(view={"kind": "crops", "per_photograph": 12, "scales": [1.0]})
    crops = cut_samples(image, data, SHA)
    assert crops.shape == (12, 16, 16, 3)
    whole = np.lib.stride_tricks.sliding_window_view(np.asarray(image), (16, 16, 3)).reshape(-1, 16 * 16 * 3)
    places = {window.tobytes() for window in whole}
    assert all(crop.tobytes() in places for crop in crops)
    assert len({crop.tobytes() for crop in crops}) > 6
    assert (cut_samples(image, data, SHA) == crops).all()
    for other in (section(seed=1, view=data.view.model_dump()), data):
        sha = SHA if other is not data else SHA[::-1]
        assert (cut_samples(image, other, sha) != crops).any()


def test_every_scale_is_used_and_lifted_where_the_photograph_is_too_small(noise, section):
    image = noise(40, 32)
    crops = cut_samples(image, section(view={"kind": "crops", "per_photograph": 60, "scales": [1.0, 0.01]}), SHA)
    smallest = np.asarray(image.resize((20, 16), Image.Resampling.BICUBIC))
    lifted = {smallest[:, left : left + 16].tobytes() for left in range(5)}
    share = np.mean([crop.tobytes() in lifted for crop in crops])
    assert 0.2 < share < 0.8
