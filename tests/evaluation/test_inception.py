"""Inception features against torch-fidelity's own forward pass and pytorch-fid's preparation of images."""

import pytest
import torch
import torch.nn.functional as F

from transvae.losses.frozen import FrozenConfig, FrozenWeightsError
from transvae.torchvision_cpu import ensure_torchvision
from transvae_platform.evaluation import inception
from transvae_platform.evaluation.inception import Inception, load_inception


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A file with the names and shapes of the published one."""
    network = inception._unloaded()
    inception._draw(network, seed=1)
    path = tmp_path_factory.mktemp("inception") / "weights-inception-2015-12-05-6726825d.pth"
    torch.save(network.state_dict(), path)
    return path


def made(path):
    """A file that is not the published one, for a network of its names and shapes."""
    return FrozenConfig(weights="unverified", path=str(path))


@pytest.fixture(scope="module")
def levels():
    return torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_it_is_torch_fidelitys(published, levels):
    ensure_torchvision()
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    (theirs,) = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(published))(levels)
    ours = Inception("torch-fidelity", made(published))
    torch.testing.assert_close(ours(levels), theirs)  # up to the rounding of another memory order
    assert ours(levels).shape == (2, 2048)
    assert ours.origin.file == published.name
    assert len(ours.origin.sha256) == 64


def test_pytorch_fid_prepares_images_in_another_way(published, levels):
    # pytorch-fid 0.3: ToTensor, F.interpolate(299, bilinear, align_corners=False), 2x - 1
    ours = Inception("pytorch-fid", made(published))
    x = F.interpolate(levels.float() / 255, size=(299, 299), mode="bilinear", align_corners=False)
    torch.testing.assert_close(ours(levels), ours.layers(2 * x - 1).flatten(1))
    other = Inception("torch-fidelity", made(published))(levels)
    assert (ours(levels) - other).abs().max() > 1e-3


def test_missing_weights_are_one_error_and_random_ones_are_asked_for(levels, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FrozenWeightsError, match=r"no weights in .*6726825d"):
        load_inception("torch-fidelity", FrozenConfig())
    drawn = load_inception("torch-fidelity", FrozenConfig(weights="random"))
    assert drawn.term("rfid") == "rfid_random"
    features = drawn(levels)
    assert torch.isfinite(features).all()
    assert 1e-2 < features.abs().max() < 64  # of the size that moments sum exactly
    assert load_inception("torch-fidelity", FrozenConfig(weights="random")) is drawn


def test_other_bytes_under_the_published_name_are_no_fid(published):
    with pytest.raises(FrozenWeightsError, match=r"6726825d.pth has the SHA-256 .*, the published .* 6726825d"):
        load_inception("torch-fidelity", FrozenConfig(path=str(published)))
    assert load_inception("torch-fidelity", made(published)).term("rfid") == "rfid_unverified"


def test_another_networks_file_is_refused(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(FrozenWeightsError, match=r"other.pth holds no weights of Inception"):
        Inception("torch-fidelity", made(path))
