"""Every named geometry against the library that defines it, on sizes where the rules part."""

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data as photographs

from transvae.torchvision_cpu import ensure_torchvision
from transvae_platform.data.pixels.decode import UnreadableImageError
from transvae_platform.data.pixels.geometry import (
    GEOMETRIES,
    adm,
    refuse_small,
    resize,
    shorter_side,
    shorter_side_bilinear,
)


@pytest.fixture(scope="module")
def photograph():
    """A photograph of any size: a part of a larger one."""
    whole = np.tile(photographs.astronaut(), (3, 3, 1))

    def cut(width, height):
        return np.ascontiguousarray(whole[100 : 100 + height, 70 : 70 + width])

    return cut


def psnr(one, other):
    error = np.square(one.astype(float) - other.astype(float)).mean()
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


def pil_crop(image, resolution, halve=False):
    """The reference: PIL's filters on the whole image, then the floor-centred crop."""
    picture = Image.fromarray(image)
    while halve and min(picture.size) >= 2 * resolution:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    scale = resolution / min(picture.size)
    size = (round(picture.width * scale), round(picture.height * scale))
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - resolution) // 2, (size[1] - resolution) // 2
    return np.asarray(picture.crop((left, top, left + resolution, top + resolution)))


SIZES = [(500, 375), (375, 500), (500, 333), (300, 451), (451, 300), (1000, 129), (513, 777), (1023, 1201)]


@pytest.mark.parametrize("size", [*SIZES, (100, 75), (127, 200)])
def test_shorter_side_is_pils_bicubic_and_floor_centred(photograph, size):
    image = photograph(*size)
    got = shorter_side(image, 128)
    assert psnr(got, pil_crop(image, 128)) >= 60
    assert np.abs(got.astype(int) - pil_crop(image, 128)).max() <= 2


@pytest.mark.parametrize("size", [*SIZES, (256, 256), (255, 400), (1024, 517), (100, 75), (90, 128)])
def test_adm_is_box_halvings_then_bicubic(photograph, size):
    image = photograph(*size)
    got = adm(image, 128)
    assert psnr(got, pil_crop(image, 128, halve=True)) >= 60
    assert np.abs(got.astype(int) - pil_crop(image, 128, halve=True)).max() <= 2


def test_adm_differs_from_shorter_side_where_it_halves(photograph):
    assert (adm(photograph(300, 255), 128) == shorter_side(photograph(300, 255), 128)).all()
    assert psnr(adm(photograph(700, 640), 128), shorter_side(photograph(700, 640), 128)) < 50


@pytest.mark.parametrize("size", [*SIZES, (256, 259), (259, 256), (128, 131), (131, 128), (128, 133), (100, 75)])
def test_bilinear_is_torchvisions_resize_and_centre_crop_of_floats(photograph, size):
    ensure_torchvision()
    from torchvision import transforms

    image = photograph(*size)
    rule = transforms.Compose([transforms.ToTensor(), transforms.Resize(128), transforms.CenterCrop(128)])
    expected = (rule(image).permute(1, 2, 0).double() * 255).numpy()
    assert np.abs(shorter_side_bilinear(image, 128) - expected).max() <= 0.501  # rounded once, at the end


def test_the_rules_part_in_offset_and_in_size(photograph):
    image = photograph(256, 259)
    assert (shorter_side(image, 256) == image[1:257]).all()
    assert (shorter_side_bilinear(image, 256) == image[2:258]).all()  # 1.5 rounded to even
    # 300 x 451 at 256: 385 or 384 high
    assert psnr(shorter_side(photograph(300, 451), 256), shorter_side_bilinear(photograph(300, 451), 256)) < 45


@pytest.mark.parametrize("name", GEOMETRIES)
class TestEveryGeometry:
    def test_gives_its_own_contiguous_square_and_leaves_the_image_alone(self, photograph, name):
        for size in [(64, 64), (64, 90), (200, 150)]:
            image = photograph(*size)
            before = image.copy()
            square = GEOMETRIES[name](image, 64)
            assert square.shape == (64, 64, 3)
            assert square.dtype == np.uint8
            assert square.flags.c_contiguous
            assert square.flags.writeable
            square[:] = 0
            assert (image == before).all()

    def test_takes_any_memory_layout_silently(self, photograph, name, recwarn):
        image = photograph(150, 200)
        expected = GEOMETRIES[name](image, 64)
        frozen = image.copy()
        frozen.flags.writeable = False
        turned = np.ascontiguousarray(image.transpose(1, 0, 2)[::-1])[::-1].transpose(1, 0, 2)
        padded = np.zeros((210, 170, 3), np.uint8)
        padded[5:205, 7:157] = image
        for same in (frozen, turned, padded[5:205, 7:157]):
            assert (GEOMETRIES[name](same, 64) == expected).all()
        assert not recwarn.list

    def test_keeps_pixels_that_need_no_resizing_and_the_middle_in_the_middle(self, photograph, name):
        image = photograph(64, 64)
        assert (GEOMETRIES[name](image, 64) == image).all()
        image = np.zeros((480, 240, 3), np.uint8)
        image[200:280, 80:160] = 255
        rows, columns = np.nonzero(GEOMETRIES[name](image, 30)[..., 0] > 127)
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 19, 10, 19)

    def test_enlarges_what_is_too_small(self, photograph, name):
        for size in [(63, 200), (200, 63), (10, 10), (1, 3)]:
            assert GEOMETRIES[name](photograph(*size), 64).shape == (64, 64, 3)

    def test_does_not_depend_on_the_number_of_threads(self, photograph, name):
        threads = torch.get_num_threads()
        results = []
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(GEOMETRIES[name](photograph(500, 375), 256))
        torch.set_num_threads(threads)
        assert (results[0] == results[1]).all()


def test_small_images_are_refused_where_nobody_enlarges(photograph):
    refuse_small(photograph(64, 64), 64)
    for width, height in [(63, 200), (200, 63)]:
        with pytest.raises(UnreadableImageError, match=f"{width} x {height} is smaller than the sample size 64 x 64"):
            refuse_small(photograph(width, height), 64)


def test_resize_can_enlarge_as_pil(photograph):
    image = photograph(40, 30)
    expected = np.asarray(Image.fromarray(image).resize((100, 90), Image.Resampling.BICUBIC))
    assert np.abs(resize(image, 90, 100).astype(int) - expected).max() <= 2
