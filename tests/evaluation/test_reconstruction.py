"""What the numbers of a validation mean, and that they do not depend on who computes them."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import nn

from transvae_platform.evaluation.reconstruction import evaluate_reconstruction, save_pictures, to_8bit
from transvae_platform.world import World


class Rounded(nn.Module):
    """Loses a different amount in every image: keeps a number of levels that the image's own mean decides."""

    def forward(self, x):
        levels = 2 + (x.mean(dim=(1, 2, 3), keepdim=True) * 100).abs().round() % 7
        return (x * levels).round() / levels, x, x


def by_hand(images, outputs):
    """PSNR per image from 8-bit values, then the mean."""
    values = []
    for image, output in zip(images.astype(float), outputs.astype(float), strict=True):
        values.append(10 * math.log10(255**2 / np.mean((image - output) ** 2)))
    return sum(values) / len(values)


def rounded(images, levels=True):
    with torch.no_grad():
        output, *_ = Rounded()(torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1)
    shown = (output * 127.5 + 127.5).round().clamp(0, 255) if levels else output.clamp(-1, 1)
    return shown.permute(0, 2, 3, 1).numpy()


def test_perfect_reconstruction(samples, shifted):
    metrics = evaluate_reconstruction(shifted(), samples, 100, 64, World())
    assert metrics["val/l1"] == metrics["val/mse"] == 0
    assert metrics["val/ssim"] == pytest.approx(1, abs=1e-6)
    # an error of one level in one of the values is the bound
    assert metrics["val/psnr"] == pytest.approx(10 * math.log10(255**2 * 3 * 24 * 24))


def test_known_error(samples, shifted):
    metrics = evaluate_reconstruction(shifted(20 / 127.5), samples, 100, 64, World())
    assert metrics["val/l1"] == pytest.approx(20 / 127.5, abs=1e-6)
    assert metrics["val/mse"] == pytest.approx((20 / 127.5) ** 2, abs=1e-6)
    assert metrics["val/psnr"] == pytest.approx(20 * math.log10(255 / 20))


def test_psnr_is_the_mean_over_images_of_8_bit_values(samples, images):
    metrics = evaluate_reconstruction(Rounded(), samples, 100, 64, World())
    outputs = rounded(images)
    assert metrics["val/psnr"] == pytest.approx(by_hand(images, outputs), abs=1e-5)
    pooled = 10 * math.log10(255**2 / np.mean((images.astype(float) - outputs) ** 2))
    assert abs(metrics["val/psnr"] - pooled) > 0.01


def test_ssim_is_that_of_wang_et_al(samples, images):
    # equation 13 of Wang et al. 2004 on values in [-1, 1], so L = 2; K1 = 0.01, K2 = 0.03, 11 x 11 window, sigma 1.5
    def blur(values):
        return gaussian_filter(values, sigma=(1.5, 1.5, 0), truncate=3.5, mode="mirror")

    expected = []
    for x, y in zip(images / 127.5 - 1, rounded(images, levels=False).astype(float), strict=True):
        mean_x, mean_y = blur(x), blur(y)
        variances = blur(x * x) - mean_x**2 + blur(y * y) - mean_y**2
        covariance = blur(x * y) - mean_x * mean_y
        c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
        quality = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
        expected.append(np.mean(quality / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))))
    metrics = evaluate_reconstruction(Rounded(), samples, 100, 64, World())
    assert metrics["val/ssim"] == pytest.approx(np.mean(expected), abs=1e-4)


def test_output_beyond_the_range_of_pictures_is_clipped(samples, shifted):
    metrics = evaluate_reconstruction(shifted(9.0), samples, 100, 64, World())
    assert metrics["val/l1"] < 2


@pytest.mark.parametrize("world", [2, 3, 7, 9])
def test_shares_of_all_processes_sum_to_the_whole(samples, monkeypatch, world):
    alone = evaluate_reconstruction(Rounded(), samples, 100, 64, World())
    # first every rank's own sums, then each rank with the total in place of its own
    collected = []
    monkeypatch.setattr(World, "sum", lambda self, values: (collected.append(values.clone()), values)[1])
    for rank in range(world):
        share = range(rank, 7, world)
        if share:
            evaluate_reconstruction(Rounded(), samples, 100, 64, World(rank, world))
        else:
            with pytest.raises(ZeroDivisionError):  # nothing to do alone; the sum over all is taken before dividing
                evaluate_reconstruction(Rounded(), samples, 100, 64, World(rank, world))
    total = torch.stack(collected).sum(0)
    monkeypatch.setattr(World, "sum", lambda self, values: total)
    for rank in range(world):
        together = evaluate_reconstruction(Rounded(), samples, 100, 64, World(rank, world))
        assert together == pytest.approx(alone, abs=1e-6)


def test_batch_size_changes_nothing(samples):
    whole = evaluate_reconstruction(Rounded(), samples, 100, 64, World())
    assert evaluate_reconstruction(Rounded(), samples, 100, 3, World()) == pytest.approx(whole, abs=1e-6)


def test_only_the_asked_number_of_images_counts_spread_over_the_split(samples, images):
    metrics = evaluate_reconstruction(Rounded(), samples, 3, 64, World())
    chosen = images[[0, 3, 6]]
    assert metrics["val/psnr"] == pytest.approx(by_hand(chosen, rounded(chosen)), abs=1e-5)


def test_not_a_number_is_not_hidden(samples, shifted):
    metrics = evaluate_reconstruction(shifted(math.nan), samples, 100, 64, World())
    assert all(math.isnan(value) for value in metrics.values())


def test_levels_are_rounded_to_the_nearest():
    levels = to_8bit(torch.tensor([-1.0, -2.0, 1.0, 0.0, 0.004, -0.99]))
    assert levels.tolist() == [0, 0, 255, 128, 128, 1]


def test_pictures_show_originals_above_reconstructions(samples, images, shifted, tmp_path):
    path = tmp_path / "deep" / "step.png"
    psnr = save_pictures(shifted(20 / 127.5), samples, 3, torch.device("cpu"), path)
    grid = np.asarray(Image.open(path))
    assert grid.shape == (2 * 24, 3 * 24, 3)
    for place, index in enumerate((0, 3, 6)):  # spread over the split
        columns = slice(24 * place, 24 * place + 24)
        assert (grid[:24, columns] == images[index]).all()
        assert (grid[24:, columns] == images[index] + 20).all()
    assert psnr == [pytest.approx(20 * math.log10(255 / 20), abs=0.01)] * 3
    assert list(path.parent.iterdir()) == [path]


def test_fewer_pictures_than_asked(samples, shifted, tmp_path):
    assert len(save_pictures(shifted(), samples, 50, torch.device("cpu"), tmp_path / "p.png")) == 7
