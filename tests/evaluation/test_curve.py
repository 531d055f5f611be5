"""The distance along a training: the same number on one process and on two, its originals read once."""

import math

import numpy as np
import pytest
import torch
from tests.evaluation.test_generation import EULER, network
from tests.training.conftest import home, samples
from tests.training.ranks import as_ranks

from transvae import create_model
from transvae_platform.errors import UserError
from transvae_platform.evaluation import curve
from transvae_platform.evaluation.curve import Meter
from transvae_platform.study.downstream_spec import Curve
from transvae_platform.world import World

__all__ = ["home", "network", "samples"]
CURVE = Curve(samples=10, originals=12, inception="random")


class Few(torch.nn.Module):
    """In place of Inception: eight means of an image, of the size of its features."""

    origin = type("Origin", (), {"network": "few"})()

    def forward(self, levels_B3HW):
        return torch.nn.functional.adaptive_avg_pool2d(levels_B3HW / 255, (2, 4))[:, 1].flatten(1)


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    monkeypatch.setattr(curve, "load_inception", lambda *_: Few())
    monkeypatch.setattr(curve, "DIMENSION", 8)


def decoder():
    torch.manual_seed(3)
    return create_model("vit-micro-T/f4d4", resolution=16).eval().decode


def measure(world, network, originals, home):
    return Meter(CURVE, EULER, originals, decoder(), world, home).measure(network, bf16=False)


def test_two_processes_come_to_the_digits_of_one(network, samples, tmp_path):
    alone = measure(World(), network, samples[0], tmp_path / "one")
    assert alone["val/gfid_random"] > 0
    assert alone["val/nfe"] == 3
    both = as_ranks(2, tmp_path / "ranks", measure, network, samples[0], tmp_path / "two")
    assert both[0] == both[1]
    assert both[0]["val/gfid_random"] == alone["val/gfid_random"]
    again = as_ranks(2, tmp_path / "ranks", measure, network, samples[0], tmp_path / "two")  # with the kept moments
    assert again == both


def test_originals_are_read_once_per_home(network, samples, tmp_path, monkeypatch):
    first = measure(World(), network, samples[0], tmp_path)
    monkeypatch.setattr(Meter, "_original_levels", lambda self: pytest.fail("read again"))
    assert measure(World(), network, samples[0], tmp_path) == first


def test_samples_that_are_not_finite_give_no_number(network, samples, tmp_path):
    def broken(latents):
        images = decoder()(latents)
        images[0] = math.nan
        return images

    meter = Meter(CURVE, EULER, samples[0], broken, World(), tmp_path)
    assert math.isnan(meter.measure(network, bf16=False)["val/gfid_random"])


def test_images_of_the_originals_have_no_distance(samples, network, tmp_path, monkeypatch):
    meter = Meter(CURVE, EULER, samples[0], decoder(), World(), tmp_path)
    ids = np.linspace(0, len(samples[0]) - 1, 12).round().astype(np.int64)
    levels = torch.from_numpy(samples[0].read(ids)).permute(0, 3, 1, 2).float()
    drawn = type("Drawn", (), {"evaluations": 1})()
    monkeypatch.setattr(curve, "draw_images", lambda *_: iter([(drawn, levels[:5]), (drawn, levels[5:])]))
    assert meter.measure(network, bf16=False)["val/gfid_random"] == pytest.approx(0, abs=1e-6)


def test_missing_weights_name_the_key(samples, tmp_path, monkeypatch):
    def missing(*_):
        raise curve.FrozenWeightsError("Inception of FID: nowhere")

    monkeypatch.setattr(curve, "load_inception", missing)
    with pytest.raises(UserError, match=r"downstream.curve: .*set downstream\.curve\.inception=random"):
        Meter(Curve(), EULER, samples[0], decoder(), World(), tmp_path)
