"""Random crops: a fair hash, torchvision's rule, and a crop that depends on its own sample and epoch only."""

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from transvae.torchvision_cpu import ensure_torchvision
from transvae_platform.data.pixels.augment import TRIES, crop_boxes, random_resized_crop
from transvae_platform.data.stream.hashing import Purpose, coin_flips, keys, uniforms

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def numbers(count, start=0):
    return np.arange(start, start + count, dtype=np.int64)


def constant(count, value=0):
    return np.full(count, value, np.int64)


def boxes(count, height, width, seed=0, scale=SCALE, ratio=RATIO):
    return crop_boxes(
        uniforms(Purpose.CROP, seed, numbers(count), constant(count), 2 * TRIES + 2), height, width, scale, ratio
    )


@pytest.mark.parametrize(
    "draws",
    [
        uniforms(Purpose.CROP, 0, numbers(20_000), constant(20_000), 5),  # over ids
        uniforms(Purpose.CROP, 3, constant(20_000, 7), numbers(20_000), 5),  # over epochs
        np.concatenate(
            [uniforms(Purpose.CROP, seed, numbers(4), constant(4), 5) for seed in range(5000)]
        ),  # over seeds
        uniforms(Purpose.CROP, 0, constant(1), constant(1), 100_000).reshape(-1, 5),  # over draws
    ],
)
def test_draws_are_uniform_and_independent_of_each_other(draws):
    assert draws.min() >= 0
    assert draws.max() < 1
    for column in draws.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-4
        assert abs(np.corrcoef(column[1:], column[:-1])[0, 1]) < 5 / np.sqrt(len(column))
    correlations = np.corrcoef(draws.T)[np.triu_indices(5, 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(len(draws))


def test_neighbouring_seeds_epochs_and_ids_share_nothing():
    count = 20_000
    base = uniforms(Purpose.CROP, 0, numbers(count), constant(count), 3)
    others = [
        uniforms(Purpose.CROP, 1, numbers(count), constant(count), 3),
        uniforms(Purpose.CROP, -1, numbers(count), constant(count), 3),
        uniforms(Purpose.CROP, 0, numbers(count), constant(count, 1), 3),
        uniforms(Purpose.CROP, 0, numbers(count, 1), constant(count), 3),
        uniforms(Purpose.CROP, 0, numbers(count) + 2**32, constant(count), 3),
        uniforms(Purpose.FLIP, 0, numbers(count), constant(count), 3),
    ]
    for other in others:
        assert np.abs(np.corrcoef(base.T, other.T)[:3, 3:]).max() < 5 / np.sqrt(count)
    seen = np.concatenate([base[:-1].ravel(), *(other.ravel() for other in others[:3])])
    assert len(np.unique(seen)) == len(seen)  # no seed or epoch is another one shifted by some ids


def test_crops_do_not_follow_the_flips():
    flips = coin_flips(0, numbers(20_000), constant(20_000)).astype(float)
    draws = uniforms(Purpose.CROP, 0, numbers(20_000), constant(20_000), 4)
    assert np.abs(np.corrcoef(flips, draws.T)[0, 1:]).max() < 5 / np.sqrt(20_000)


def test_no_two_purposes_share_a_key():
    drawn = [keys(purpose, seed, numbers(1000), constant(1000)) for purpose in Purpose for seed in (0, 1)]
    assert len(np.unique(drawn)) == 2 * len(Purpose) * 1000


def test_draws_stay_what_they_were():
    # computed by hand with Python's integers from the description: the same crops on every machine and version
    gamma, word = 0x9E3779B97F4A7C15, 2**64 - 1

    def mix(x):
        x = x + gamma & word
        x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & word
        x = ((x ^ x >> 27) * 0x94D049BB133111EB) & word
        return x ^ x >> 31

    state = mix(mix(mix(mix(5) + 7 * gamma & word) + 11 * gamma & word) + 2 * gamma & word)
    expected = [(mix(state + draw * gamma & word) >> 11) / 2**53 for draw in (1, 2, 3)]
    assert uniforms(Purpose.CROP, 5, np.array([11]), np.array([2]), 3).tolist() == [expected]


def test_a_crop_depends_on_its_own_sample_only():
    images = np.random.default_rng(0).integers(0, 256, (8, 40, 50, 3), np.uint8)
    ids, epochs = numbers(8, 100), np.arange(8) % 3
    crops = random_resized_crop(images, ids, epochs, 1, 24)
    assert crops.shape == (8, 24, 24, 3)
    assert crops.dtype == np.uint8
    for order in ([5], [7, 2], [6, 5, 4, 3, 2, 1, 0, 7]):
        assert (random_resized_crop(images[order], ids[order], epochs[order], 1, 24) == crops[order]).all()
    for seed, ids_, epochs_ in [(2, ids, epochs), (1, ids + 1, epochs), (1, ids, epochs + 1)]:
        assert (random_resized_crop(images, ids_, epochs_, seed, 24) != crops).any(axis=(1, 2, 3)).all()


def test_a_crop_is_the_resized_box():
    images = np.random.default_rng(0).integers(64, 192, (5, 60, 80, 3), np.uint8)  # too grey to saturate
    images.flags.writeable = False  # as records of a memory-mapped shard
    crops = random_resized_crop(images, numbers(5), constant(5), 0, 32)
    for crop, image, (top, left, height, width) in zip(crops, images, boxes(5, 60, 80), strict=True):
        part = Image.fromarray(image[top : top + height, left : left + width])
        expected = np.asarray(part.resize((32, 32), Image.Resampling.BICUBIC))
        assert np.abs(crop.astype(int) - expected).max() <= 2


@pytest.mark.parametrize(("height", "width"), [(256, 256), (200, 300), (100, 500)])
def test_boxes_follow_torchvisions_distribution(height, width):
    ensure_torchvision()
    import torch
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    blank = torch.empty(3, height, width)
    theirs = np.array([RandomResizedCrop.get_params(blank, list(SCALE), list(RATIO)) for _ in range(2000)])
    ours = boxes(4000, height, width)
    assert (ours >= 0).all()
    assert (ours[:, 0] + ours[:, 2] <= height).all()
    assert (ours[:, 1] + ours[:, 3] <= width).all()
    for number in range(4):  # top, left, height, width
        assert stats.ks_2samp(ours[:, number], theirs[:, number]).pvalue > 1e-4


@pytest.mark.parametrize(("height", "width"), [(10, 1000), (1000, 10), (100, 100)])
def test_where_nothing_fits_the_largest_central_box_is_taken_as_in_torchvision(height, width):
    ensure_torchvision()
    import torch
    from torchvision.transforms import RandomResizedCrop

    scale = (1.5, 2.0)  # larger than the image, so no box fits
    theirs = RandomResizedCrop.get_params(torch.empty(3, height, width), list(scale), list(RATIO))
    assert boxes(3, height, width, scale=scale).tolist() == [list(theirs)] * 3


def test_corners_of_the_draws_stay_inside():
    for value in (0.0, 1 - 2.0**-53):
        (box,) = crop_boxes(np.full((1, 2 * TRIES + 2), value), 37, 53, (0.08, 0.3), (1.0, 1.0))
        assert (box >= 0).all()
        assert box[0] + box[2] <= 37
        assert box[1] + box[3] <= 53
        if value:
            assert (box[0] + box[2], box[1] + box[3]) == (37, 53)


def test_another_number_of_ids_is_refused():
    with pytest.raises(ValueError, match="2 images need as many ids and epochs, not 3 and 2"):
        random_resized_crop(np.zeros((2, 8, 8, 3), np.uint8), numbers(3), constant(2), 0, 4)
