"""Metrics per image against other people's code, and what a protocol changes."""

import dataclasses

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from transvae.losses.frozen import FrozenConfig
from transvae.losses.perceptual import load_lpips
from transvae.torchvision_cpu import ensure_torchvision
from transvae_platform.errors import SpecError
from transvae_platform.evaluation.per_image import per_image
from transvae_platform.evaluation.protocols import PRESETS, preset

RANDOM = FrozenConfig(weights="random")


@pytest.fixture(scope="module")
def pair():
    """Smooth images in [-1, 1] and their noisy outputs, which leave the range."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(3, 3, 6, 6, generator=generator) * 2 - 1
    levels = (torch.nn.functional.interpolate(coarse, size=(48, 48), mode="bilinear") * 127.5 + 127.5).round()
    x = levels / 127.5 - 1
    strength = torch.tensor([0.05, 0.1, 0.5]).view(3, 1, 1, 1)
    return x, x + strength * torch.randn(x.shape, generator=generator)


def measured(pair, name):
    protocol = PRESETS[name]
    lpips = load_lpips(RANDOM, trunk=protocol.trunk) if protocol.trunk else None
    return per_image(*pair, protocol, lpips)


def as_levels(x):
    return (x.numpy().transpose(0, 2, 3, 1) * 127.5 + 127.5 + 0.5).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", ["vavae", "dcae", "rae"])
def test_psnr_is_scikit_images(pair, name):
    images, outputs = (as_levels(value) for value in pair)
    expected = [peak_signal_noise_ratio(a, b) for a, b in zip(images, outputs, strict=True)]
    assert measured(pair, name)["psnr"].tolist() == pytest.approx(expected, abs=1e-9)


def test_psnr_of_floats_differs_from_that_of_levels(pair):
    x, y = (value.clamp(-1, 1).double().numpy() for value in pair)
    expected = [peak_signal_noise_ratio(a, b, data_range=2) for a, b in zip(x, y, strict=True)]
    assert measured(pair, "detok")["psnr"].tolist() == pytest.approx(expected, abs=1e-6)
    assert measured(pair, "detok").keys() == {"psnr"}


def test_ssim_is_torchmetrics_with_va_vaes_range(pair):
    from torchmetrics.functional.image import structural_similarity_index_measure

    x, y = pair
    expected = [
        structural_similarity_index_measure(y[i : i + 1], x[i : i + 1], data_range=(-1.0, 1.0)).item() for i in range(3)
    ]
    assert measured(pair, "vavae")["ssim"].tolist() == pytest.approx(expected, abs=1e-6)


def test_ssim_of_levels_is_scikit_images(pair):
    images, outputs = (as_levels(value) for value in pair)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    for i, value in enumerate(measured(pair, "dcae")["ssim"].tolist()):
        # torchmetrics mirrors the border, scikit-image another way: mirrored before, its own border cut off
        padded = [np.pad(image, ((5, 5), (5, 5), (0, 0)), mode="reflect") for image in (images[i], outputs[i])]
        _, full = structural_similarity(*padded, channel_axis=2, full=True, **options)
        assert value == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-5)


@pytest.mark.parametrize("name", ["vavae", "dcae"])
def test_lpips_is_the_packages(pair, name):
    ensure_torchvision()
    import lpips

    protocol = PRESETS[name]
    ours = load_lpips(RANDOM, trunk=protocol.trunk)
    package = lpips.LPIPS(net=protocol.trunk, pretrained=True, pnet_rand=True, verbose=False).eval()
    package.net.load_state_dict(ours.package.net.state_dict())
    x, y = pair
    if protocol.lpips == "levels":
        x, y = (torch.from_numpy(as_levels(v)).permute(0, 3, 1, 2).float() / 255 * 2 - 1 for v in pair)
    expected = package(x, y).flatten().tolist()
    assert measured(pair, name)["lpips_random"].tolist() == pytest.approx(expected, rel=1e-5)


def test_lpips_sees_what_the_protocol_says(pair):
    lpips = load_lpips(RANDOM)
    unclamped = per_image(*pair, PRESETS["vavae"], lpips)["lpips_random"]
    clamped = per_image(*pair, dataclasses.replace(PRESETS["vavae"], lpips="clamped"), lpips)["lpips_random"]
    assert (unclamped - clamped).abs().max() > 1e-4


def test_identical_images_have_an_infinite_psnr(pair):
    x, _ = pair
    found = per_image(x, x.clone(), PRESETS["detok"], None)
    assert torch.isinf(found["psnr"]).all()


def test_numbers_that_are_none_stay_none(pair):
    x, y = pair
    y = y.clone()
    y[1, 0, 0, 0] = float("nan")
    found = per_image(x, y, PRESETS["vavae"], load_lpips(RANDOM))
    assert all(torch.isnan(values[1]) and torch.isfinite(values[[0, 2]]).all() for values in found.values())


def test_every_value_of_a_protocol_is_in_its_identity():
    vavae = preset("vavae")
    assert len({protocol.identity for protocol in PRESETS.values()}) == len(PRESETS)
    others = {"geometry": "adm", "latent": "mean", "psnr": "clamped", "identical": "left out", "ssim": None,
              "lpips": None, "trunk": "alex", "extractor": "torch-fidelity"}  # fmt: skip
    assert set(others) | {"name"} == {field.name for field in dataclasses.fields(vavae)}
    for key, value in others.items():
        assert dataclasses.replace(vavae, **{key: value}).identity != vavae.identity, key
    assert dataclasses.replace(vavae, name="another").identity == vavae.identity


def test_other_images_make_another_protocol():
    vavae = preset("vavae")
    assert vavae.on("shorter_side_bilinear") is vavae
    assert vavae.on("crops").name == "vavae on crops"
    assert vavae.on("crops").identity != vavae.identity


def test_unknown_preset_is_refused_with_a_hint():
    with pytest.raises(SpecError, match="did you mean 'vavae'"):
        preset("va-vae")
    with pytest.raises(SpecError, match="there are: vavae, dcae, rae, detok"):
        preset("x")
