"""Where frozen weights come from: files, caches, downloads that were asked for, seeds."""

import hashlib
import subprocess
import sys
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from transvae.losses.frozen import (
    Frozen,
    FrozenConfig,
    FrozenWeightsError,
    Origin,
    drawn_from,
    locate,
    once,
    put,
    read,
)
from transvae.losses.hubs import HuggingFace, TorchHub


class _Hub:
    """A hub with what is in its cache and what can be downloaded from it."""

    def __init__(self, cached=None, remote=None, digits=""):
        self._cached, self._remote, self.digits, self.downloads = cached, remote, digits, 0

    def __str__(self):
        return "the-cache"

    def cached(self):
        return self._cached

    def download(self):
        self.downloads += 1
        if self._remote is None:
            raise URLError("no route to host")
        return self._remote


def test_a_path_goes_before_the_cache_and_the_cache_before_a_download(tmp_path):
    mine, cached, remote = (tmp_path / name for name in ("mine", "cached", "remote"))
    for file in (mine, cached, remote):
        file.touch()
    hub = _Hub(cached, remote)
    assert locate("net", hub, FrozenConfig(path=str(mine))) == mine
    assert locate("net", hub, FrozenConfig()) == cached
    assert locate("net", hub, FrozenConfig(download=True)) == cached
    assert locate("net", hub, FrozenConfig(weights="random")) is None
    assert hub.downloads == 0
    assert locate("net", _Hub(None, remote), FrozenConfig(download=True)) == remote


def test_a_file_with_other_bytes_than_the_published_ones_is_refused(tmp_path):
    file = tmp_path / "net-397923af.pth"
    file.write_bytes(b"weights")
    digits = hashlib.sha256(b"weights").hexdigest()[:8]
    assert locate("net", _Hub(file, digits=digits), FrozenConfig()) == file
    wrong = _Hub(file, digits="397923af")
    for config in (FrozenConfig(), FrozenConfig(path=str(file))):
        with pytest.raises(FrozenWeightsError, match=rf"net: {file} has the SHA-256 {digits}.* begins with 397923af"):
            locate("net", wrong, config)
    made = FrozenConfig(weights="unverified", path=str(file))
    assert locate("net", wrong, made) == file
    assert Frozen(Origin("net", made.weights)).term("lpips") == "lpips_unverified"


def test_nothing_is_downloaded_unasked():
    hub = _Hub(None, "remote")
    with pytest.raises(FrozenWeightsError, match=r"net: no weights in the-cache; .*path.*download=true.*random"):
        locate("net", hub, FrozenConfig())
    assert hub.downloads == 0


def test_a_failed_download_names_network_place_and_way_out():
    with pytest.raises(FrozenWeightsError, match=r"net: .* the-cache could not be downloaded.*no route.*option path"):
        locate("net", _Hub(), FrozenConfig(download=True))


def test_a_path_without_a_file_is_named(tmp_path):
    for missing in (tmp_path / "missing.pth", tmp_path):
        with pytest.raises(FrozenWeightsError, match=f"net: there is no weight file {missing}"):
            locate("net", _Hub(), FrozenConfig(path=str(missing)))


def test_torch_hub_downloads_into_its_cache_and_checks_the_digits(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    content = tmp_path / "content"
    torch.save({"a": torch.ones(2)}, content)
    digits = hashlib.sha256(content.read_bytes()).hexdigest()[:8]
    (served := tmp_path / f"net-{digits}.pth").write_bytes(content.read_bytes())
    good = TorchHub(served.as_uri())
    assert good.cached() is None
    assert good.download() == good.cached() == tmp_path / "checkpoints" / served.name
    (wrong := tmp_path / "net-00000000.pth").write_bytes(content.read_bytes())
    with pytest.raises(FrozenWeightsError, match="could not be downloaded"):
        locate("net", TorchHub(wrong.as_uri()), FrozenConfig(download=True))
    assert TorchHub(wrong.as_uri()).cached() is None


def test_an_unreachable_hugging_face_hub_is_an_error_of_ours(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FrozenWeightsError, match=r"net: .*model.safetensors of owner/name.* could not be downloaded"):
        locate("net", HuggingFace("owner/name"), FrozenConfig(download=True))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_are_read_with_their_digest(tmp_path, suffix):
    path, state = tmp_path / f"weights{suffix}", {"a": torch.randn(3)}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    found, origin = read("net", path, FrozenConfig())
    assert torch.equal(found["a"], state["a"])
    assert origin == Origin("net", "pretrained", path.name, hashlib.sha256(path.read_bytes()).hexdigest())


class _Code:
    def __reduce__(self):
        return (print, ("run by a pickle",))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files_are_named(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    for content in (b"", b"\x80nonsense" * 9):
        path.write_bytes(content)
        with pytest.raises(FrozenWeightsError, match=f"net: {path} cannot be read as weights"):
            read("net", path, FrozenConfig())


def test_code_in_a_pickle_is_not_run(tmp_path, capsys):
    torch.save(_Code(), tmp_path / "weights.pth")
    with pytest.raises(FrozenWeightsError, match="cannot be read as weights"):
        read("net", tmp_path / "weights.pth", FrozenConfig())
    assert capsys.readouterr().out == ""
    torch.save(torch.ones(2), tmp_path / "weights.pth")
    with pytest.raises(FrozenWeightsError, match="holds a Tensor, not named weights"):
        read("net", tmp_path / "weights.pth", FrozenConfig())


def test_weights_fit_exactly_and_are_fp32():
    origin = Origin("net", "pretrained", "file.pth")
    weights = {"weight": torch.ones(2, 3).half(), "bias": torch.zeros(2).half()}
    layer = nn.Linear(3, 2, device="meta")
    put(layer, weights, origin)
    assert layer.weight.dtype == torch.float32
    for wrong in (
        {"weight": weights["weight"]},
        {**weights, "more": torch.ones(1)},
        {**weights, "bias": torch.ones(3)},
    ):
        with pytest.raises(FrozenWeightsError, match=r"file.pth holds no weights of net"):
            put(nn.Linear(3, 2, device="meta"), wrong, origin)


def test_drawing_is_repeatable_and_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    expected = torch.randn(3)
    draws = []
    torch.manual_seed(1)
    for seed in (5, 5, 6):
        with torch.device("meta"), drawn_from(seed):
            draws.append(torch.randn(4))
    assert torch.equal(torch.randn(3), expected)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[1], draws[2])


def test_a_network_is_built_once_until_its_file_changes(tmp_path):
    path, built = tmp_path / "weights", []
    path.write_bytes(b"1")

    def network(*what):
        return once(Frozen, path, what, lambda: built.append(what) or Frozen(Origin("net", "pretrained")))

    first = network("a")
    assert network("a") is first
    assert network("b") is not first
    path.write_bytes(b"22")
    assert network("a") is not first
    assert built == [("a",), ("b",), ("a",)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weights": "imagenet"}, "choose one of pretrained, random"),
        ({"weights": "random", "path": "x"}, "reads no file"),
        ({"weights": "random", "download": True}, "reads no file"),
        ({"path": "x", "download": True}, "nothing to do"),
        ({"weights": "unverified"}, "give path alone"),
    ],
)
def test_options_that_contradict_each_other_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        FrozenConfig(**values)


def test_the_networks_alone_import_no_image_library():
    code = (
        "import sys; from transvae import TransVAE, Objective, create_model; import transvae.losses.perceptual,"
        "transvae.losses.features, transvae.losses.alignment, transvae.losses.adversarial;"
        "print([name for name in ('torchvision', 'timm', 'lpips') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
