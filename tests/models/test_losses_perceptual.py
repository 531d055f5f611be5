"""LPIPS against the package and against its formula in float64; its files and its eval mode."""

import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from transvae.losses.frozen import FrozenConfig, FrozenWeightsError
from transvae.losses.hubs import TorchHub
from transvae.losses.perceptual import LPIPS, TRUNKS, load_lpips
from transvae.torchvision_cpu import ensure_torchvision

RANDOM = FrozenConfig(weights="random", seed=3)


def made(path):
    """A file that is not the published one, for a network of its names and shapes."""
    return FrozenConfig(weights="unverified", path=str(path))


CONVOLUTIONS = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]  # of torchvision's vgg16().features
ENDS_OF_BLOCKS = (2, 7, 14, 21, 28)  # relu1_2, relu2_2, relu3_3, relu4_3, relu5_3


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """(file, its weights) with the names and shapes of torchvision's checkpoint; the classifier is small."""
    generator = torch.Generator().manual_seed(0)
    state, before = {}, 3
    for layer, after in zip(CONVOLUTIONS, (64, 64, 128, 128, 256, 256, 256, *[512] * 6), strict=True):
        state[f"features.{layer}.weight"] = torch.randn(after, before, 3, 3, generator=generator) / (3 * before**0.5)
        state[f"features.{layer}.bias"] = 0.1 * torch.randn(after, generator=generator)
        before = after
    state |= {"classifier.0.weight": torch.zeros(4, 4), "classifier.0.bias": torch.zeros(4)}
    path = tmp_path_factory.mktemp("vgg") / "vgg16-397923af.pth"
    torch.save(state, path)
    return path, state


@pytest.fixture(scope="module")
def model(published):
    return LPIPS(made(published[0]))


def _images(count=2, size=32):
    return torch.rand(count, 3, size, size) * 2 - 1, torch.rand(count, 3, size, size) * 2 - 1


def test_it_is_the_packages(published, model):
    ensure_torchvision()
    import lpips

    with torch.device("meta"):
        package = lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False)
    package.to_empty(device="cpu")
    package.scaling_layer = lpips.ScalingLayer()
    package.load_state_dict(_package_weights(), strict=False)
    for slice_ in (package.net.slice1, package.net.slice2, package.net.slice3, package.net.slice4, package.net.slice5):
        for name, layer in slice_.named_children():
            if hasattr(layer, "weight"):
                layer.weight.data = published[1][f"features.{name}.weight"]
                layer.bias.data = published[1][f"features.{name}.bias"]
    x, y = _images(3, 48)
    y.requires_grad_(True)
    ours, theirs = model(x, y), package.eval()(x, y)
    assert ours.shape == (3,)
    assert torch.equal(ours, theirs.flatten())
    assert torch.equal(torch.autograd.grad(ours.sum(), y)[0], torch.autograd.grad(theirs.sum(), y)[0])


def test_the_formula(published, model):
    """Zhang et al. 2018 in float64: scale, VGG16, unit length per position, weighted squares, mean, sum of layers."""
    x, y = _images()
    linear, expected = _package_weights(), torch.zeros(2, dtype=torch.float64)
    for k, (a, b) in enumerate(zip(*(_trunk(published[1], image) for image in (x, y)), strict=True)):
        a, b = (m / m.square().sum(dim=1, keepdim=True).sqrt() for m in (a, b))
        weights = linear[f"lin{k}.model.1.weight"].double().view(1, -1, 1, 1)
        expected += ((a - b).square() * weights).sum(dim=1).mean(dim=(1, 2))
    torch.testing.assert_close(model(x, y).double(), expected, rtol=1e-5, atol=0)


def _trunk(state, x):
    shift, scale = (
        torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450))
    )
    x = (x.double() - shift) / scale
    maps = []
    for layer in CONVOLUTIONS:
        weight, bias = (state[f"features.{layer}.{part}"].double() for part in ("weight", "bias"))
        x = F.conv2d(x, weight, bias, padding=1).relu()
        if layer in ENDS_OF_BLOCKS:
            maps.append(x)
            x = F.max_pool2d(x, 2)
    return maps


def _package_weights():
    ensure_torchvision()
    import lpips

    return torch.load(
        Path(lpips.__file__).parent / "weights" / "v0.1" / "vgg.pth", map_location="cpu", weights_only=True
    )


def test_the_linear_weights_are_those_of_taming_transformers():
    ensure_torchvision()
    import lpips

    path = Path(lpips.__file__).parent / "weights" / "v0.1" / "vgg.pth"
    assert hashlib.md5(path.read_bytes()).hexdigest() == "d507d7349b931f0638a25a48a722f98a"


def test_equal_images_are_at_no_distance(model):
    x, y = _images()
    assert torch.equal(model(x, x), torch.zeros(2))
    assert (model(x, y) > 0).all()
    torch.testing.assert_close(model(x, y), model(y, x))


def test_it_stays_in_eval_mode_and_frozen(model):
    x, y = _images()
    outer = torch.nn.Sequential(model).train()
    assert outer.training
    assert not any(module.training for module in model.modules())
    assert torch.equal(model(x, y), model(x, y))  # its linear layers contain dropout
    y.requires_grad_(True)
    model(x, y).sum().backward()
    assert y.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in model.parameters())
    assert not any(t.is_meta for t in (*model.parameters(), *model.buffers()))


def test_it_is_fp32_under_autocast(model):
    x, y = _images()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(x, y)
    assert torch.equal(mixed, model(x, y))
    assert model(x.bfloat16(), y.bfloat16()).dtype == torch.float32


def test_random_weights_are_a_function_of_the_seed(model):
    before = torch.get_rng_state()
    a, b, other = LPIPS(RANDOM), LPIPS(RANDOM), LPIPS(FrozenConfig(weights="random", seed=4))
    assert torch.equal(torch.get_rng_state(), before)
    x, y = _images()
    assert torch.equal(a(x, y), b(x, y))
    assert not torch.equal(a(x, y), other(x, y))
    assert (a.term("lpips"), model.term("lpips")) == ("lpips_random", "lpips_unverified")
    assert (a.origin.seed, a.origin.sha256) == (3, None)


def test_it_is_loaded_once_per_process(published, tmp_path):
    config = made(published[0])
    assert load_lpips(config) is load_lpips(config)
    assert load_lpips(RANDOM) is load_lpips(RANDOM)
    assert load_lpips(RANDOM) is not load_lpips(FrozenConfig(weights="random", seed=4))
    copy = tmp_path / "vgg.safetensors"
    save_file(published[1], copy)
    first = load_lpips(made(copy))
    save_file({**published[1], "features.0.bias": torch.ones(64)}, copy)
    second = load_lpips(made(copy))
    assert second is not first
    assert second.origin.sha256 == hashlib.sha256(copy.read_bytes()).hexdigest() != first.origin.sha256


def test_the_cache_of_torch_hub_is_found(published, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(FrozenWeightsError) as refused:
        load_lpips()
    for word in ("VGG16", str(tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth"), "path", "download", "random"):
        assert word in str(refused.value)
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "vgg16-397923af.pth").symlink_to(published[0])
    with pytest.raises(FrozenWeightsError, match="the published file begins with 397923af"):
        load_lpips()
    digits = hashlib.sha256(published[0].read_bytes()).hexdigest()
    hub = TorchHub(f"https://example.org/vgg16-{digits[:8]}.pth")
    monkeypatch.setitem(TRUNKS, "vgg", dataclasses.replace(TRUNKS["vgg"], published=hub))
    (checkpoints / f"vgg16-{digits[:8]}.pth").symlink_to(published[0])
    found = load_lpips()
    assert (found.origin.sha256, found.origin.weights) == (digits, "pretrained")
    assert found.origin.file == f"vgg16-{digits[:8]}.pth"


def test_other_linear_layers_than_the_packages_are_refused(monkeypatch):
    monkeypatch.setitem(TRUNKS, "vgg", dataclasses.replace(TRUNKS["vgg"], linear="0" * 12))
    with pytest.raises(FrozenWeightsError, match=r"Linear layers of LPIPS: .*vgg.pth has the SHA-256 a78928a0af1e"):
        LPIPS(RANDOM)


def test_weights_of_another_network_are_refused(published, tmp_path):
    path = tmp_path / "other.pth"
    for change in ({"features.0.weight": torch.zeros(64, 1, 3, 3)}, {"features.3.weight": torch.zeros(1)}):
        torch.save({**published[1], **change}, path)
        with pytest.raises(FrozenWeightsError, match=r"other.pth holds no weights of VGG16 of LPIPS"):
            LPIPS(made(path))
    torch.save({k: v for k, v in published[1].items() if k != "features.28.bias"}, path)
    with pytest.raises(FrozenWeightsError, match=r"slice5.28.bias"):
        LPIPS(made(path))


@pytest.mark.parametrize("shapes", [((1, 3, 8, 32), (1, 3, 8, 32)), ((1, 3, 32, 32), (1, 3, 16, 16))])
def test_images_that_cannot_be_compared_are_refused(model, shapes):
    with pytest.raises(ValueError, match="at least 16 pixels"):
        model(*(torch.zeros(shape) for shape in shapes))
