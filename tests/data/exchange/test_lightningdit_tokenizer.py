"""Ours under the methods of LightningDiT's VA_VAE."""

import numpy as np
import pytest
import torch
from PIL import Image

from transvae import create_model
from transvae_platform.data.exchange.lightningdit_tokenizer import LightningDiTTokenizer
from transvae_platform.data.pixels.geometry import adm


@pytest.fixture
def tokenizer(tmp_path):
    torch.manual_seed(0)
    create_model("vit-micro-T/f8d8").save_pretrained(tmp_path)
    return LightningDiTTokenizer.from_pretrained(tmp_path, img_size=32)


def test_images_are_cropped_as_adm_does(tokenizer):
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    straight = tokenizer.img_transform()(Image.fromarray(pixels))
    expected = torch.from_numpy(adm(pixels, 32)).permute(2, 0, 1) / 127.5 - 1
    assert torch.equal(straight, expected)
    assert torch.equal(tokenizer.img_transform(p_hflip=1.0)(Image.fromarray(pixels)), straight.flip(2))
    assert tokenizer.img_transform(img_size=16)(Image.fromarray(pixels).convert("L")).shape == (3, 16, 16)


def test_there_and_back(tokenizer):
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    torch.manual_seed(1)
    z = tokenizer.encode_images(x)
    torch.manual_seed(1)
    assert torch.equal(z, tokenizer.model.encode(x, sample=True))
    images = tokenizer.decode_to_images(z)
    assert images.shape == (2, 32, 32, 3)
    expected = (127.5 * tokenizer.model.decode(z) + 128).clamp(0, 255).floor()
    assert np.array_equal(images, expected.detach().permute(0, 2, 3, 1).numpy())
