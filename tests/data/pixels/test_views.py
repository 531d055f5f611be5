"""Cutting samples out of one photograph."""

import numpy as np
import pytest
from PIL import Image

from transvae_platform.data.pixels.decode import UnreadableImageError
from transvae_platform.data.pixels.geometry import GEOMETRIES
from transvae_platform.data.pixels.views import cut_samples

SHA = "0123456789abcdef" * 4


@pytest.fixture
def pixels(noise):
    return lambda *size: np.array(noise(*size))


def test_photograph_smaller_than_a_sample_is_unreadable(pixels, section):
    for size in [(40, 15), (15, 40)]:
        for view in ({"kind": "centre"}, {"kind": "crops"}):
            with pytest.raises(
                UnreadableImageError, match=f"{size[0]} x {size[1]} is smaller than the sample size 16 x 16"
            ):
                cut_samples(pixels(*size), section(view=view), SHA)
    assert cut_samples(pixels(16, 16), section(), SHA).shape == (1, 16, 16, 3)


@pytest.mark.parametrize("name", list(GEOMETRIES))
def test_centre_takes_the_geometry_by_its_name(pixels, section, name):
    image = pixels(50, 70)
    (sample,) = cut_samples(image, section(view={"kind": "centre", "geometry": name}), SHA)
    assert (sample == GEOMETRIES[name](image, 16)).all()


def test_crops_are_places_of_the_photograph_and_a_function_of_its_hash(pixels, section):
    image = pixels(64, 48)
    data = section(view={"kind": "crops", "per_photograph": 12, "scales": [1.0]})
    crops = cut_samples(image, data, SHA)
    assert crops.shape == (12, 16, 16, 3)
    whole = np.lib.stride_tricks.sliding_window_view(image, (16, 16, 3)).reshape(-1, 16 * 16 * 3)
    places = {window.tobytes() for window in whole}
    assert all(crop.tobytes() in places for crop in crops)
    assert len({crop.tobytes() for crop in crops}) > 6
    assert (cut_samples(image, data, SHA) == crops).all()
    for other in (section(seed=1, view=data.view.model_dump()), data):
        sha = SHA if other is not data else SHA[::-1]
        assert (cut_samples(image, other, sha) != crops).any()


def test_every_scale_is_used_and_lifted_where_the_photograph_is_too_small(pixels, section):
    image = pixels(40, 32)
    crops = cut_samples(image, section(view={"kind": "crops", "per_photograph": 60, "scales": [1.0, 0.01]}), SHA)
    smallest = np.asarray(Image.fromarray(image).resize((20, 16), Image.Resampling.BICUBIC))
    lifted = {smallest[:, left : left + 16].tobytes() for left in range(5)}
    share = np.mean([crop.tobytes() in lifted for crop in crops])
    assert 0.2 < share < 0.8


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_thin_line_that_would_grow_beyond_the_limit_is_unreadable(section, geometry):
    line = np.zeros((1, 600_000, 3), np.uint8)
    data = section(view={"kind": "centre", "geometry": geometry, "enlarge": True})
    with pytest.raises(UnreadableImageError, match="600000 x 1 resized to 9600000 x 16 pixels is above the limit"):
        cut_samples(line, data, "0" * 64)
