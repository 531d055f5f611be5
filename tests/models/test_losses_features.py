"""The vision network behind the alignment loss, on timm's smallest ViT and on DINOv2's shapes."""

import hashlib

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from transvae.losses.features import DINOV2_LARGE, FeatureNetwork, load_features
from transvae.losses.frozen import FrozenConfig, FrozenWeightsError
from transvae.torchvision_cpu import ensure_torchvision

ensure_torchvision()
import timm  # noqa: E402

TINY = "test_vit"  # timm's own test model: patch 16, width 64
SMALL = "vit_small_patch14_dinov2.lvd142m"
RANDOM = FrozenConfig(weights="random", seed=2)


@pytest.fixture(scope="module")
def vit():
    """timm's model itself, with weights of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        return timm.create_model(TINY, pretrained=False, dynamic_img_size=True).eval()


@pytest.fixture(scope="module")
def published(vit, tmp_path_factory):
    """A file as timm publishes it: safetensors under its names, classifier included."""
    path = tmp_path_factory.mktemp("vit") / "model.safetensors"
    save_file(vit.state_dict(), path)
    return path


def test_features_are_the_patch_tokens_in_their_places(vit, published):
    network = FeatureNetwork(TINY, FrozenConfig(path=str(published)))
    x = torch.rand(2, 3, 64, 48) * 2 - 1
    with torch.no_grad():
        tokens = vit.forward_features(x)
    features = network(x, (4, 3))
    assert features.shape == (2, 64, 4, 3)
    for row in range(4):
        for column in range(3):
            assert torch.equal(features[:, :, row, column], tokens[:, 1 + row * 3 + column])  # token 0 is CLS
    assert network.origin.sha256 == hashlib.sha256(published.read_bytes()).hexdigest()


def test_the_image_is_resized_as_va_vae_does_and_not_normalised(vit, published):
    network = FeatureNetwork(TINY, FrozenConfig(path=str(published)))
    x = torch.rand(1, 3, 40, 40) * 2 - 1
    resized = F.interpolate(x, size=(32, 32), mode="bilinear", align_corners=False)
    with torch.no_grad():
        expected = vit.forward_features(resized)[:, 1:].reshape(1, 2, 2, 64).permute(0, 3, 1, 2)
    torch.testing.assert_close(network(x, (2, 2)), expected, rtol=0, atol=0)


def test_256_pixels_become_224_for_dinov2():
    """VA-VAE's network and sizes, without weights."""
    with torch.device("meta"):
        vit = timm.create_model(DINOV2_LARGE, pretrained=False, dynamic_img_size=True)
    assert vit.patch_embed.patch_size == (14, 14)
    seen = []
    vit.forward_features = lambda x: seen.append(x.shape) or torch.empty(x.shape[0], 257, 1024, device="meta")
    network = FeatureNetwork(TINY, RANDOM)
    network.vit, network.patch = vit, 14
    assert network(torch.empty(2, 3, 256, 256, device="meta"), (16, 16)).shape == (2, 1024, 16, 16)
    assert seen == [(2, 3, 224, 224)]


def test_nothing_flows_back():
    network = FeatureNetwork(TINY, RANDOM)
    x = torch.rand(1, 3, 32, 32, requires_grad=True)
    assert not network.train()(x, (2, 2)).requires_grad
    assert not any(p.requires_grad for p in network.parameters())
    assert not any(module.training for module in network.modules())


def test_random_weights_are_a_function_of_the_seed():
    before = torch.get_rng_state()
    a, b, other = (FeatureNetwork(TINY, FrozenConfig(weights="random", seed=seed)) for seed in (2, 2, 3))
    assert torch.equal(torch.get_rng_state(), before)
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(a(x, (2, 2)), b(x, (2, 2)))
    assert not torch.equal(a(x, (2, 2)), other(x, (2, 2)))
    assert a.term("vf") == "vf_random"


def test_it_is_loaded_once_per_process(published):
    config = FrozenConfig(path=str(published))
    before = torch.get_rng_state()
    assert load_features(TINY, config) is load_features(TINY, config)
    assert torch.equal(torch.get_rng_state(), before)
    assert load_features(TINY, config).term("vf") == "vf"
    assert load_features(TINY, RANDOM) is load_features(TINY, RANDOM)
    assert load_features(TINY, RANDOM) is not load_features(TINY, config)


def test_dinov2_small_takes_the_files_of_timm_and_of_its_release(tmp_path):
    """Both give the same features; the release has a mask token more, and half precision is widened."""
    with torch.random.fork_rng(devices=[]):
        vit = timm.create_model(SMALL, pretrained=False, dynamic_img_size=True).eval()
    state = {key: weight.half() for key, weight in vit.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    torch.save({**state, "mask_token": torch.zeros(1, 384)}, tmp_path / "dinov2_vits14_pretrain.pth")
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    ours, theirs = (
        FeatureNetwork(SMALL, FrozenConfig(path=str(tmp_path / name)))
        for name in ("model.safetensors", "dinov2_vits14_pretrain.pth")
    )
    assert (ours.patch, ours.channels) == (14, 384)
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    features = ours(x, (2, 2))
    assert torch.equal(features, theirs(x, (2, 2)))
    vit.load_state_dict(state)
    with torch.no_grad():
        tokens = vit.forward_features(F.interpolate(x, size=(28, 28), mode="bilinear", align_corners=False))
    torch.testing.assert_close(features[0, :, 0, 1], tokens[0, 2], rtol=0, atol=0)


def test_the_cache_of_the_hugging_face_hub_is_found(published, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FrozenWeightsError) as refused:
        load_features("test_vit.r160_in1k")
    for word in ("test_vit.r160_in1k", str(tmp_path), "model.safetensors", "path", "download", "random"):
        assert word in str(refused.value)
    repository = tmp_path / "models--timm--test_vit.r160_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c0ffee")
    (repository / "snapshots" / "c0ffee").mkdir(parents=True)
    (repository / "snapshots" / "c0ffee" / "model.safetensors").symlink_to(published)
    found = load_features("test_vit.r160_in1k")
    assert found.origin.sha256 == hashlib.sha256(published.read_bytes()).hexdigest()


def test_weights_of_another_network_are_refused(published, tmp_path):
    with pytest.raises(FrozenWeightsError, match=rf"model.safetensors holds no weights of {SMALL}"):
        FeatureNetwork(SMALL, FrozenConfig(path=str(published)))
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "vgg.pth")
    with pytest.raises(FrozenWeightsError, match=rf"vgg.pth holds no weights of {TINY}"):
        FeatureNetwork(TINY, FrozenConfig(path=str(tmp_path / "vgg.pth")))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18", "'resnet18' is no vision transformer of timm"),
        ("dinov2", "'dinov2' is no vision transformer of timm"),
        ("vit_small_patch14_dinov2.imagenet", f"no 'vit_small_patch14_dinov2.imagenet'; it has {SMALL}"),
    ],
)
def test_other_names_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        load_features(name, RANDOM)
