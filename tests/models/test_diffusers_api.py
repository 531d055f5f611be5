"""Ours where diffusers' autoencoders are expected: the same attributes, the same numbers as ours alone."""

import inspect

import pytest
import torch

from transvae import create_model
from transvae.diffusers_api import DiffusersAutoencoder
from transvae.torchvision_cpu import ensure_torchvision


@pytest.fixture
def pair(tmp_path):
    torch.manual_seed(0)
    model = create_model("vit-micro-T/f8d8").eval()
    model.save_pretrained(tmp_path)
    return model, DiffusersAutoencoder.from_pretrained(tmp_path, scaling_factor=0.5, shift_factor=0.1)


def test_encode_and_decode_are_the_models(pair):
    model, vae = pair
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        posterior = vae.encode(x).latent_dist
        mean, noise = model.encode(x), torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(3))
        assert torch.equal(posterior.mode(), mean)
        assert torch.equal(
            posterior.sample(torch.Generator().manual_seed(3)), model.encode(x, sample=True, noise=noise)
        )
        assert torch.equal(vae.decode(mean).sample, model.decode(mean))
        assert torch.equal(vae(x).sample, model.decode(mean))
        assert torch.equal(
            vae.decode(vae.encode(x, return_dict=False)[0].mode(), return_dict=False)[0], model.decode(mean)
        )
    with pytest.raises(ValueError, match="not divisible by the compression 8"):
        vae.encode(x[..., :30])


def test_pipelines_find_what_they_read(pair):
    _, vae = pair
    assert 2 ** (len(vae.config.block_out_channels) - 1) == 8  # diffusers' `vae_scale_factor`
    assert (vae.config.scaling_factor, vae.config.shift_factor, vae.config.latent_channels) == (0.5, 0.1, 8)
    assert vae.config.sample_size == 32
    assert (vae.dtype, vae.device.type) == (torch.float32, "cpu")


def test_signatures_are_those_of_diffusers(pair):
    ensure_torchvision()
    diffusers = pytest.importorskip("diffusers")
    for name in ("encode", "decode", "forward"):
        theirs = list(inspect.signature(getattr(diffusers.AutoencoderKL, name)).parameters)
        ours = list(inspect.signature(getattr(DiffusersAutoencoder, name)).parameters)
        for parameter in ours[2:]:
            assert parameter in theirs, name
    config = diffusers.AutoencoderKL(block_out_channels=(4,), norm_num_groups=2).config
    for key in vars(pair[1].config):
        assert key in config, key


def test_a_generator_of_the_cpu_serves_a_model_on_another_device(pair):
    _, vae = pair
    with torch.no_grad():
        elsewhere = vae.to("meta").encode(torch.zeros(1, 3, 32, 32, device="meta")).latent_dist
    generator = torch.Generator().manual_seed(3)
    assert elsewhere.sample(generator).device.type == "meta"
    drawn = torch.randn(2, generator=generator)
    torch.randn(1, 8, 4, 4, generator=(same := torch.Generator().manual_seed(3)))
    assert torch.equal(drawn, torch.randn(2, generator=same))  # it was drawn from
