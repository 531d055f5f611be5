"""A generator's folder: what is saved comes back bit for bit, with the latents that it belongs to."""

import json
from dataclasses import replace

import pytest
import torch

from transvae import Autoencoder, create_model
from transvae.generation import LatentSpace, LightningDiT, dit_config

SPACE = LatentSpace(
    fingerprint="aaaa", data="bbbb", resolution=32, content="sample",
    tokenizer={"name": "m", "weights_sha256": "cc", "config": "dd"},
    mean=(0.1, 1 / 3, 0.0, -2.5), std=(1.0, 2.0, 0.1, 3.0),
)  # fmt: skip


def small(latents=SPACE):
    torch.manual_seed(0)
    model = LightningDiT(dit_config("lightning_dit-micro-S/2", 4, 8, classes=10), latents)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def test_save_and_load_bit_for_bit_without_drawing_random_numbers(tmp_path):
    model = small()
    model.save_pretrained(tmp_path / "saved")
    before = torch.random.get_rng_state()
    loaded = LightningDiT.from_pretrained(tmp_path / "saved")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not loaded.training
    assert (loaded.config, loaded.latents) == (model.config, SPACE)
    x, t, y = torch.randn(3, 4, 8, 8), torch.rand(3), torch.tensor([0, 9, 10])
    assert torch.equal(loaded(x, t, y), model(x, t, y))
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]


def test_the_card_names_the_tokenizer(tmp_path):
    small().save_pretrained(tmp_path / "one")
    assert "trained on latents of m" in (tmp_path / "one" / "README.md").read_text()
    small(None).save_pretrained(tmp_path / "two")
    assert LightningDiT.from_pretrained(tmp_path / "two").latents is None


def test_folders_of_other_models_and_wrong_statistics_are_refused(tmp_path):
    create_model("cnn-micro-T/f4d4").save_pretrained(tmp_path / "vae")
    with pytest.raises(ValueError, match="is of no generator: its `family` is not"):
        LightningDiT.from_pretrained(tmp_path / "vae")
    small().save_pretrained(tmp_path / "dit")
    with pytest.raises(ValueError):
        Autoencoder.from_pretrained(tmp_path / "dit")
    path = tmp_path / "dit" / "config.json"
    values = json.loads(path.read_text())
    values["latents"]["mean"], values["latents"]["std"] = [0.0] * 3, [1.0] * 3
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="statistics of 3 channels, the network has 4"):
        LightningDiT.from_pretrained(tmp_path / "dit")
    del values["latents"]["data"]
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="data"):
        LightningDiT.from_pretrained(tmp_path / "dit")
    with pytest.raises(ValueError, match="normalise nothing"):
        replace(SPACE, std=(1.0, 0.0, 1.0, 1.0))
