"""The shared interface: shapes, input checks, sampling, resolution, and every registered model."""

import pytest
import torch
from torch import nn

from transvae.config import AutoencoderConfig, TransVAELayout
from transvae.losses.objective import Objective
from transvae.posterior import DiagonalGaussian
from transvae.registry import create_model, list_models, model_config
from transvae.sizes import FAMILIES, REPRESENTATIONS

MICRO = [f"{family}-micro-T/f8d8" for family in FAMILIES]
MIXABLE = [name for name in list_models() if not name.startswith(REPRESENTATIONS)]  # those: test_representation.py
PAPER = [name for name in MIXABLE if "-micro-" not in name]
REAL_PAPER = [f"{family}-T/f16d32" for family in FAMILIES]  # the paper sizes that a CPU trains in a second


def _train_once(model, x):
    reconstruction, mu, logvar = model.train()(x)
    total, _ = Objective()(x, reconstruction, mu, logvar)
    total.backward()
    assert reconstruction.shape == x.shape
    f = model.config.compression
    assert mu.shape == logvar.shape == (x.shape[0], model.config.latent_dim, x.shape[2] // f, x.shape[3] // f)
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert not missing
    return reconstruction, total


@pytest.mark.parametrize("name", [*(name for name in MIXABLE if "-micro-" in name), *REAL_PAPER])
def test_every_small_model_trains(name):
    model = create_model(name)
    assert all(p.isfinite().all() for p in model.parameters())
    reconstruction, total = _train_once(model, torch.rand(2, 3, 32, 32) * 2 - 1)
    assert reconstruction.isfinite().all()
    assert total.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", [name for name in PAPER if name not in REAL_PAPER])
def test_every_large_model_trains_on_meta(name):
    _train_once(create_model(name, device="meta"), torch.empty(2, 3, 64, 96, device="meta"))


@pytest.mark.parametrize("name", PAPER)
def test_paper_models_take_512_pixels_on_meta(name):
    model = create_model(name, device="meta")
    f, d = model.config.compression, model.config.latent_dim
    assert model.encode(torch.empty(1, 3, 512, 512, device="meta")).shape == (1, d, 512 // f, 512 // f)


@pytest.mark.parametrize("name", [*MICRO, *(f"{family}-micro-T/f4d4" for family in FAMILIES)])
@pytest.mark.parametrize("size", [(32, 32), (64, 96), (40, 24), (104, 56), (8, 8)])
@torch.no_grad()
def test_any_multiple_of_f_works(name, size):
    model = create_model(name).eval()
    x = torch.rand(1, 3, *size) * 2 - 1
    reconstruction, mu, _ = model(x)
    assert reconstruction.shape == x.shape
    assert reconstruction.isfinite().all()
    torch.testing.assert_close(model.decode(model.encode(x)), reconstruction)
    torch.testing.assert_close(model.encode(x), mu)


@pytest.mark.parametrize("name", MICRO)
@pytest.mark.parametrize(("size", "words"), [((36, 32), "height 36"), ((32, 30), "width 30"), ((4, 32), "height 4")])
def test_sides_that_f_does_not_divide_are_refused_by_name(name, size, words):
    with pytest.raises(ValueError, match=rf"{name}: {words} is not divisible by the compression 8"):
        create_model(name)(torch.zeros(1, 3, *size))


def test_other_inputs_are_refused():
    model = create_model("vit-micro-T/f8d8")
    with pytest.raises(ValueError, match=r"shape \(B, 3, H, W\)"):
        model(torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match=r"shape \(B, 3, H, W\)"):
        model(torch.zeros(3, 32, 32))
    with pytest.raises(ValueError, match="floating point"):
        model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"shape \(B, 8, h, w\)"):
        model.decode(torch.zeros(1, 4, 4, 4))


def test_noise_decides_the_sample():
    model = create_model("transvae-micro-T/f8d8", posterior_init="standard").train()
    x, noise = torch.rand(2, 3, 32, 32), torch.randn(2, 8, 4, 4)
    (a, mu, logvar), (b, _, _) = model(x, noise=noise), model(x, noise=noise)
    torch.testing.assert_close(a, b, rtol=0, atol=0)
    torch.testing.assert_close(a, model.decode(mu + torch.exp(0.5 * logvar) * noise))
    assert not torch.equal(model(x)[0], model(x)[0])
    torch.testing.assert_close(model(x, sample=False)[0], model.decode(mu))
    model.eval()
    torch.testing.assert_close(model(x)[0], model.decode(mu))
    torch.testing.assert_close(model(x, noise=noise, sample=True)[0], a)
    with pytest.raises(ValueError, match="noise has shape"):
        model(x, noise=noise[:1], sample=True)


def test_encode_samples_with_a_generator():
    model = create_model("vit-micro-T/f8d8", posterior_init="standard").eval()
    x = torch.rand(1, 3, 32, 32)
    first, second = (model.encode(x, sample=True, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not torch.equal(first, model.encode(x))


def test_posterior():
    moments = torch.cat([torch.full((2, 3, 4, 4), 0.5), torch.full((2, 3, 4, 4), 99.0)], dim=1)
    posterior = DiagonalGaussian(moments)
    assert posterior.logvar.max() == 20
    assert DiagonalGaussian(-moments).logvar.min() == -30
    assert torch.equal(posterior.mode(), posterior.mean)
    standard = DiagonalGaussian(torch.zeros(2, 6, 4, 4))
    assert torch.equal(standard.kl(), torch.zeros(2))
    assert torch.equal(standard.std, torch.ones(2, 3, 4, 4))
    half = DiagonalGaussian(moments.bfloat16())
    assert half.mean.dtype == torch.float32
    assert half.mode().dtype == half.sample().dtype == torch.bfloat16


@pytest.mark.parametrize("name", MICRO)
def test_gradient_checkpointing_changes_nothing_but_memory(name):
    model = create_model(name).train()
    x, noise = torch.rand(2, 3, 32, 32), torch.randn(2, 8, 4, 4)

    def gradients():
        model.zero_grad()
        model(x, noise=noise)[0].square().mean().backward()
        return [p.grad.clone() for p in model.decoder.parameters()]

    plain = gradients()
    kept = _kept_bytes(model, x)
    model.enable_gradient_checkpointing()
    for a, b in zip(plain, gradients(), strict=True):
        torch.testing.assert_close(a, b)
    assert _kept_bytes(model, x) < kept
    model.enable_gradient_checkpointing(False)
    assert _kept_bytes(model, x) == kept


def _kept_bytes(model, x):
    kept = 0

    def pack(tensor):
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(x)
    return kept


@pytest.mark.parametrize("name", MICRO)
def test_bf16_follows_fp32(name):
    model = create_model(name).eval()
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        exact = model(x)[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = model(x)[0]
        model.to(torch.bfloat16)
        half, mu, _ = model(x.bfloat16())
    assert model.dtype == half.dtype == torch.bfloat16
    assert mu.dtype == torch.float32
    assert model.device.type == "cpu"
    scale = exact.abs().mean()
    assert (mixed.float() - exact).abs().mean() < 0.05 * scale
    assert (half.float() - exact).abs().mean() < 0.05 * scale


def test_tables_cached_under_inference_mode_still_train():
    for name in ("vit-micro-T/f8d8", "swin-micro-T/f8d8"):
        model = create_model(name)
        x = torch.rand(1, 3, 72, 88)
        with torch.inference_mode():
            model(x)
        model(x)[0].mean().backward()


def test_channels_last_gives_the_same():
    for name in MICRO:
        model = create_model(name).eval()
        x = torch.rand(2, 3, 32, 32)
        with torch.no_grad():
            plain = model(x)[0]
            last = model.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))[0]
        torch.testing.assert_close(plain, last, rtol=1e-4, atol=1e-4)


HEADS = [("vit-T/f16d32", {"head": "linear"}), ("vit-T/f16d32", {"head": "seqconv"})]


@pytest.mark.parametrize(("name", "head"), [*((name, {}) for name in (*REAL_PAPER, *MICRO)), *HEADS])
def test_last_layers_end_the_two_sides(name, head):
    """VA-VAE's conv_out: the encoder's makes as many channels as the moments have, the decoder's makes the pixels."""
    model = create_model(name, device="meta", **head)
    parameters = {id(p): key for key, p in model.named_parameters()}
    encoder, decoder = parameters[id(model.last_encoder_layer)], parameters[id(model.last_decoder_layer)]
    assert encoder == ("encoder.head.2.weight" if name.startswith("cnn") else "encoder.moments.weight")
    assert decoder.startswith("decoder.head.")
    assert model.last_encoder_layer.shape[0] == 2 * model.config.latent_dim
    assert model.last_decoder_layer.shape[0] % 3 == 0
    weights = [key for key, p in model.decoder.named_parameters() if p.ndim == 4]
    assert decoder == f"decoder.{weights[-1]}"


def test_dtype_device_and_seed():
    model = create_model("vit-micro-T/f8d8", dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    with torch.device("meta"):
        assert create_model("vit-micro-T/f8d8").device.type == "meta"
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(create_model("cnn-micro-T/f8d8").state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_resolution_changes_no_shape():
    for name in MICRO:
        small, large = (create_model(name, device="meta", resolution=r) for r in (32, 128))
        assert [p.shape for p in small.parameters()] == [p.shape for p in large.parameters()]


def test_a_config_builds_without_a_name():
    layout = TransVAELayout(widths=(16, 32), depths=(1, 1), res_stages=1, head_dim=16)
    config = AutoencoderConfig(name="mine", encoder=layout, decoder=layout, latent_dim=4, compression=2, resolution=16)
    model = create_model(config)
    assert isinstance(model, nn.Module)
    assert model(torch.zeros(1, 3, 16, 16))[0].shape == (1, 3, 16, 16)
    assert model_config("transvae-T/f16d32").family == "transvae"
