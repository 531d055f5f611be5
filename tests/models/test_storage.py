"""Saving, loading, and the snippets of the TransVAE README."""

import json
import stat

import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image
from safetensors.torch import save_file

from transvae import Autoencoder, TransVAE, create_model, model_config, storage
from transvae.sizes import FAMILIES
from transvae.utils import load_checkpoint, preprocess_image


@pytest.mark.parametrize("family", FAMILIES)
def test_save_and_load_bit_for_bit(family, tmp_path):
    model = create_model(f"{family}-micro-T/f8d8", resolution=64).eval().to(memory_format=torch.channels_last)
    model.save_pretrained(tmp_path / "saved")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    loaded = Autoencoder.from_pretrained(tmp_path / "saved")
    assert loaded.config == model.config
    assert not loaded.training
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[key])
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded.to(memory_format=torch.channels_last)(x)[0], model(x)[0], rtol=0, atol=0)
    loaded.train()(x)[0].mean().backward()


def test_half_precision_is_kept(tmp_path):
    create_model("vit-micro-T/f8d8", dtype=torch.bfloat16).save_pretrained(tmp_path)
    assert Autoencoder.from_pretrained(tmp_path).dtype == torch.bfloat16


def test_an_ablated_model_comes_back_as_itself(tmp_path):
    model = create_model("vit-micro-T/f8d8", position="learned", decoder="cnn", mid_attention=False)
    model.save_pretrained(tmp_path)
    assert Autoencoder.from_pretrained(tmp_path).config == model.config


def test_the_card_describes_the_model(tmp_path):
    model = create_model("swin-micro-T/f8d8")
    model.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "swin-micro-T/f8d8" in card
    assert "76,700" in card


def test_readme_quick_start(tmp_path, monkeypatch):
    large = TransVAE(variant="large", compression_ratio=16, latent_dim=32, input_resolution=256, device="meta")
    assert large.config == model_config("transvae-L/f16d32")
    model = TransVAE(variant="tiny", compression_ratio=16, latent_dim=32, input_resolution=64)
    model.enable_gradient_checkpointing()
    picture = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(picture)
    image = preprocess_image(picture, size=64)
    with torch.no_grad():
        reconstruction, mu, logvar = model(image)
        z = model.encode(image)
        assert model.decode(z).shape == reconstruction.shape == (1, 3, 64, 64)
    assert z.shape == mu.shape == logvar.shape == (1, 32, 4, 4)

    create_model("transvae-micro-T/f8d8").save_pretrained(tmp_path / "transvae-large-f16d32")
    monkeypatch.chdir(tmp_path)
    loaded = TransVAE.from_pretrained("transvae-large-f16d32")
    assert isinstance(loaded, TransVAE)
    assert loaded.config.name == "transvae-micro-T/f8d8"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"variant": "B"}, "transvae-B/f16d32"),
        ({"variant": "giant_printed"}, "transvae-giant_printed/f16d32"),
        ({"variant": "large", "compression_ratio": 8, "latent_dim": 16}, "transvae-L/f8d16"),
    ],
)
def test_variants(arguments, name):
    assert TransVAE(**arguments, device="meta").config == model_config(name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "small"}, "the variants are tiny, base, large, huge, giant"),
        ({"compression_ratio": 32}, "the ratios are 16, 8"),
        ({"variant": "tiny", "compression_ratio": 8}, "sizes of transvae at f8d16 are L"),
        ({"input_resolution": 250}, "not a multiple of the compression"),
    ],
)
def test_variants_that_do_not_exist(arguments, message):
    with pytest.raises(ValueError, match=message):
        TransVAE(**arguments, device="meta")


def test_transvae_refuses_another_family(tmp_path):
    create_model("cnn-micro-T/f8d8").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="load it with Autoencoder"):
        TransVAE.from_pretrained(tmp_path)


def test_an_unreachable_hub_is_explained(monkeypatch):
    def unreachable(*_, **__):
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(storage, "snapshot_download", unreachable)
    with pytest.raises(FileNotFoundError, match=r"no pretrained model 'transvae-large-f16d32'.*no local folder"):
        TransVAE.from_pretrained("transvae-large-f16d32")


def test_the_hub_is_asked_for_what_is_no_folder(monkeypatch, tmp_path):
    model = create_model("vit-micro-T/f8d8")
    model.save_pretrained(tmp_path)
    asked = []
    monkeypatch.setattr(storage, "snapshot_download", lambda name, **_: asked.append(name) or str(tmp_path))
    assert Autoencoder.from_pretrained("someone/a-model").config == model.config
    assert asked == ["someone/a-model"]


def test_broken_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        Autoencoder.from_pretrained(tmp_path)
    model = create_model("vit-micro-T/f8d8")
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["encoder"]["width"] = 64
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="does not fit its config"):
        Autoencoder.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        Autoencoder.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="not a mapping"):
        Autoencoder.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no model\.safetensors"):
        Autoencoder.from_pretrained(tmp_path)


def test_load_checkpoint(tmp_path):
    model, other = create_model("vit-micro-T/f8d8"), create_model("vit-micro-T/f8d8")
    torch.save({"model_state_dict": model.state_dict(), "step": 3}, tmp_path / "a.pt")
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    for name in ("a.pt", "a.safetensors"):
        state = load_checkpoint(tmp_path / name, other)
        assert all(torch.equal(state[key], tensor) for key, tensor in other.state_dict().items())


def test_checkpoints_that_do_not_fit(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        load_checkpoint(tmp_path / "none.pt")
    torch.save({"weights": {}}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="no key 'model_state_dict'"):
        load_checkpoint(tmp_path / "a.pt")
    torch.save({"model_state_dict": {"a": 3}}, tmp_path / "b.pt")
    with pytest.raises(ValueError, match="state dict of tensors"):
        load_checkpoint(tmp_path / "b.pt")
    torch.save({"model_state_dict": {"a": torch.zeros(1)}}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match="does not fit Autoencoder"):
        load_checkpoint(tmp_path / "c.pt", create_model("vit-micro-T/f8d8"))


def test_preprocess_image(tmp_path):
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[:, 30:] = 255
    image = preprocess_image(pixels)
    assert image.shape == (1, 3, 40, 60)
    assert (image.min().item(), image.max().item()) == (-1.0, 1.0)
    square = preprocess_image(Image.fromarray(pixels), size=32)
    assert square.shape == (1, 3, 32, 32)
    assert square[..., 0].mean() < -0.9
    assert preprocess_image(Image.new("L", (8, 8))).shape == (1, 3, 8, 8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert torch.equal(preprocess_image(str(tmp_path / "a.png")), image)
    with pytest.raises(ValueError, match="uint8"):
        preprocess_image(np.zeros((4, 4, 3)))
    with pytest.raises(FileNotFoundError):
        preprocess_image(tmp_path / "missing.png")


@pytest.mark.parametrize(
    "content", [b"", b"\x10\x00\x00\x00\x00\x00\x00\x00{}", b"\xff" * 200], ids=["empty", "cut", "noise"]
)
def test_damaged_weights_are_named(tmp_path, content):
    create_model("vit-micro-T/f8d8").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        Autoencoder.from_pretrained(tmp_path)


def test_configuration_that_is_no_text_is_named(tmp_path):
    create_model("vit-micro-T/f8d8").save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"config\.json is not valid JSON"):
        Autoencoder.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["c.pt", "c.safetensors"])
def test_damaged_checkpoint_is_named_and_never_advises_to_trust_it(tmp_path, name):
    (tmp_path / name).write_bytes(b"garbage" * 50)
    with pytest.raises(ValueError, match=rf"{name} is damaged, or holds more than tensors") as caught:
        load_checkpoint(tmp_path / name)
    assert "weights_only" not in str(caught.value)


def test_photograph_of_a_phone_stands_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.new("RGB", (40, 20)).save(tmp_path / "p.jpg", exif=exif)
    assert preprocess_image(tmp_path / "p.jpg").shape == (1, 3, 40, 20)


def test_weights_are_as_readable_as_the_folder(tmp_path):
    model = create_model("vit-micro-T/f8d8")
    for mode in (0o755, 0o700):
        folder = tmp_path / str(mode)
        folder.mkdir()
        folder.chmod(mode)
        model.save_pretrained(folder)
        assert stat.S_IMODE((folder / "model.safetensors").stat().st_mode) == mode & 0o666
