"""S-VAE, PS-VAE and RAE: what they are made of, what learns in which phase, what they refuse."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from transvae import Autoencoder, count_model, create_model, list_models, model_config
from transvae.config import AutoencoderConfig
from transvae.families.representation import adopt, enter_phase, inherit, load_twin
from transvae.losses.features import FeatureNetwork, View, draw_features, load_features
from transvae.losses.frozen import FrozenConfig, FrozenWeightsError
from transvae.losses.semantic import SemanticConfig, SemanticObjective
from transvae.memory import count_activations
from transvae.tokenizers import TokenizerError, open_tokenizer

NETWORK = "vit_micro_T_patch4"
RAE_VIEW = View("bicubic", "network")
RANDOM = FrozenConfig(weights="random", seed=3)
OURS = [name for name in list_models("*-micro-*") if name.startswith(("s-vae", "ps-vae", "rae"))]


@pytest.fixture
def twin():
    return FeatureNetwork(NETWORK, RANDOM, RAE_VIEW)


@pytest.fixture
def x():
    return torch.rand(2, 3, 32, 32) * 2 - 1


def linear(a, b):
    return a * b + b


def vit_parameters(depth, width, patch, positions):
    block = 12 * width**2 + 13 * width
    return depth * block + (positions + 1) * width + width + linear(3 * patch**2, width) + 2 * width


def pixel_parameters(latent, widths, blocks):
    total, before = 9 * latent * widths[0] + widths[0] + 2 * widths[0], widths[0]
    for width in widths:
        for block in range(blocks):
            a = before if block == 0 else width
            total += 2 * a + 9 * a * width + width + 2 * width + 9 * width**2 + width
            total += linear(a, width) if a != width else 0
        total += 9 * width**2 + width
        before = width
    return total + 2 * before + 27 * before + 3


def semantic_parameters(latent, widths, channels):
    total, before = 0, latent
    for width in widths:
        total, before = total + linear(before, width) + 2 * width, width
    return total + linear(before, channels) + 2 * (2 * linear(channels, channels) + 2 * channels)


def test_counts_of_the_guide():
    """DINOv2-L (timm: 304.37 M), projector 1024-512-256-2x96, semantic decoder back, pixels (512, 512, 256, 128)."""
    ps_vae, s_vae = count_model("ps-vae-L/f16d96"), count_model("s-vae-L/f16d96")
    projector = linear(1024, 512) + 2 * 512 + linear(512, 256) + 2 * 256 + 2 * linear(256, 96)
    semantic = semantic_parameters(96, (256, 512), 1024)
    dinov2 = sum(p.numel() for p in create_model("rae-L/f16d1024", device="meta").encoder.parameters())
    assert dinov2 == 304_367_616  # timm, without its (empty) head
    assert ps_vae.encoder_parameters == s_vae.encoder_parameters == dinov2 + projector
    assert s_vae.decoder_parameters == semantic
    assert ps_vae.decoder_parameters == semantic + pixel_parameters(96, (512, 512, 256, 128), 2)
    assert s_vae.encoder_forward_flops == ps_vae.encoder_forward_flops
    # 256 positions: of the frozen network there is no backward pass
    assert s_vae.frozen_forward_flops == count_model("rae-L/f16d1024").encoder_forward_flops
    assert s_vae.training_flops == 3 * s_vae.forward_flops - 2 * s_vae.frozen_forward_flops
    assert ps_vae.training_flops == 3 * ps_vae.forward_flops


@pytest.mark.parametrize("cell", [4, 8])
def test_micro_counts_and_channels_come_from_one_table(cell):
    for size, (depth, width) in {"T": (2, 32), "B": (3, 48), "L": (6, 64), "H": (6, 96), "G": (6, 144)}.items():
        cost = count_model(f"ps-vae-micro-{size}/f{cell}d16")
        projector = linear(width, 64) + 128 + linear(64, 32) + 64 + linear(32, 32)
        assert cost.encoder_parameters == vit_parameters(depth, width, cell, 64) + projector
        assert (
            count_model(f"rae-micro-{size}/f{cell}d{width}").encoder_parameters + projector == cost.encoder_parameters
        )


@pytest.mark.parametrize("size", ["T", "B", "L", "G"])
def test_channels_in_the_table_are_timms(size):
    config = model_config(f"s-vae-{size}/f16d96")
    for name in (config.encoder.network, config.encoder.network.replace("patch14", "patch14_reg4")):
        assert build(name).embed_dim == model_config(config.name, network=name).encoder.channels


@pytest.mark.parametrize("name", ["base", "large", "so400m", "giantopt"])
def test_siglip2_has_no_part_that_nothing_reads(name):
    full = f"vit_{name}_patch16_siglip_gap_256.v2_webli"
    config = model_config("ps-vae-L/f16d96", network=full)
    assert config.decoder.channels == build(full).embed_dim
    assert not [key for key, _ in build(full).named_parameters() if key.startswith(("attn_pool", "head", "fc_norm"))]


def build(name):
    from transvae.losses.features import build_features

    return build_features(name)


@pytest.mark.parametrize("name", OURS)
def test_every_micro_model_answers_at_both_of_its_resolutions(name):
    model = create_model(name).eval()
    f, d = model.config.compression, model.config.latent_dim
    for side in (32, 64):
        posterior = model.posterior(torch.rand(2, 3, side, side) * 2 - 1)
        assert posterior.mean.shape == (2, d, side // f, side // f)
        shapes = [tuple(answer.shape) for answer in model.answers(posterior.mode())]
        images = [(2, 3, side, side)] if model.config.has_pixels else []
        features = [(2, getattr(model.config.decoder, "channels", 0), side // f, side // f)]
        assert shapes == [*images, *(features if model.config.has_semantics else [])]


def test_256_pixels_meet_patches_of_14_as_in_rae(monkeypatch):
    seen = []
    model = create_model("rae-T/f16d384")
    monkeypatch.setattr(
        model.encoder.trunk.vit, "forward_features", lambda x: seen.append(x) or torch.zeros(1, 257, 384)
    )
    x = torch.rand(1, 3, 256, 256) * 2 - 1
    assert model.posterior(x).mean.shape == (1, 384, 16, 16)
    resized = F.interpolate(x, size=(224, 224), mode="bicubic", align_corners=False)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])  # ImageNet
    expected = ((resized + 1) / 2 - mean[:, None, None]) / deviation[:, None, None]
    torch.testing.assert_close(seen[0], expected)
    other = replace(model.config, encoder=replace(model.config.encoder, resize="bilinear", normalise="none"))
    model = create_model(other)
    monkeypatch.setattr(
        model.encoder.trunk.vit, "forward_features", lambda x: seen.append(x) or torch.zeros(1, 257, 384)
    )
    model.posterior(x)
    torch.testing.assert_close(seen[1], F.interpolate(x, size=(224, 224), mode="bilinear", align_corners=False))


def test_siglip2_sees_256_pixels_as_they_are():
    """Patches of 16, mean and deviation 0.5: [-1, 1] is what it was trained on."""
    twin = FeatureNetwork(NETWORK, RANDOM, RAE_VIEW)
    assert twin.patch == 4
    x, seen = torch.rand(1, 3, 32, 32) * 2 - 1, []
    twin.vit.forward_features = lambda x: seen.append(x) or torch.zeros(1, 65, 32)
    twin(x, (8, 8))
    torch.testing.assert_close(seen[0], x)


def objective(twin, **values):
    return SemanticObjective(SemanticConfig(lpips=0.0, **values), twin)


def step(model, twin, x, phase):
    """One update of everything that may learn; returns the names of what moved."""
    enter_phase(model.train(), phase)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    posterior = model.posterior(x)
    z = posterior.sample()
    pixels = (x, model.decode(z)) if phase == "pixel" else None
    target = twin(x, tuple(z.shape[2:]))
    total, terms = objective(twin)(model.semantics(z), target, posterior.mean, posterior.logvar, pixels)
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-2).zero_grad()
    total.backward()
    unused = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not unused, "several workers would wait for them"
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-2).step()
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}, terms


def test_phases_move_their_parts_alone(twin, x):
    model = create_model("ps-vae-micro-T/f4d16", posterior_init="standard")
    adopt(model, twin)
    moved, terms = step(model, twin, x, "semantic")
    assert {name.split(".")[1] for name in moved} == {"projector", "moments", "semantic"}
    assert set(terms) == {"semantic_random", "cosine_random", "kl", "kl_sum", "total"}
    moved, terms = step(model, twin, x, "pixel")
    assert {name.split(".")[1] for name in moved} == {"trunk", "projector", "moments", "semantic", "pixels"}
    assert {"l1", "mse"} < set(terms)
    assert torch.equal(twin(x, (8, 8)), FeatureNetwork(NETWORK, RANDOM, RAE_VIEW)(x, (8, 8))), "the twin never moves"


def test_s_vae_keeps_its_network_whatever_is_asked_for(twin, x):
    model = create_model("s-vae-micro-T/f4d16").train()
    model.encoder.requires_grad_(False)
    model.encoder.requires_grad_(True)  # as a stage that trains the decoder alone, and the next
    assert not any(p.requires_grad for p in model.encoder.trunk.parameters())
    assert all(p.requires_grad for p in model.encoder.projector.parameters())
    assert not model.encoder.trunk.vit.training
    moved, _ = step(model, twin, x, "semantic")
    assert not [name for name in moved if "trunk" in name]
    model.requires_grad_(True)  # of the whole model: reaches every parameter, past the encoder
    model.semantics(model.posterior(x).sample()).sum().backward()
    assert all(p.grad is None for p in model.encoder.trunk.parameters())


def test_rae_is_the_features_and_trains_its_decoder(twin, x):
    model = create_model("rae-micro-T/f4d32").train()
    adopt(model, twin)
    posterior = model.posterior(x)
    assert torch.equal(posterior.mean, twin(x, (8, 8)))
    torch.testing.assert_close(posterior.sample(), posterior.mean, rtol=0, atol=5e-6)
    F.l1_loss(model.decode(posterior.mean), x).backward()
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None} == {"decoder"}
    assert model.last_encoder_layer.shape == (32,)


def test_before_training_the_network_is_its_twin(twin, x):
    model = create_model("ps-vae-micro-T/f4d16")
    assert not torch.equal(model.encoder.trunk(x), twin(x, (8, 8)))
    adopt(model, twin)
    assert torch.equal(model.encoder.trunk(x), twin(x, (8, 8)))


def test_a_ps_vae_begins_from_an_s_vae(twin, x):
    s_vae, ps_vae = create_model("s-vae-micro-T/f4d16").eval(), create_model("ps-vae-micro-T/f4d16").eval()
    adopt(s_vae, twin)
    step(s_vae, twin, x, "semantic")
    fresh = ps_vae.decoder.pixels.stem[0].weight.clone()
    inherit(ps_vae, s_vae)
    assert torch.equal(ps_vae.encode(x), s_vae.eval().encode(x))
    z = torch.randn(1, 16, 8, 8)
    assert torch.equal(ps_vae.semantics(z), s_vae.semantics(z))
    assert torch.equal(ps_vae.decoder.pixels.stem[0].weight, fresh)


def test_local_files_in_the_published_format_are_taken(tmp_path, x):
    vit = draw_features(NETWORK)
    heads = {"head.weight": torch.zeros(3, 32), "attn_pool.q.weight": torch.zeros(32, 32)}  # SigLIP2's pooling head
    save_file({**vit.state_dict(), **heads}, tmp_path / "model.safetensors")
    model = create_model("s-vae-micro-T/f4d16")
    network = load_twin(model.config, FrozenConfig(path=str(tmp_path / "model.safetensors")))
    assert network.term("semantic") == "semantic"
    adopt(model, network)
    assert torch.equal(model.encoder.trunk(x), network(x, (8, 8)))


def test_nobody_publishes_the_micro_networks():
    with pytest.raises(FrozenWeightsError, match=r"no weights in any hub: it is a network of this project.*random"):
        load_features(NETWORK)
    with pytest.raises(FrozenWeightsError, match="could not be downloaded"):
        load_features(NETWORK, FrozenConfig(download=True))


@pytest.mark.parametrize("name", ["s-vae-micro-T/f4d16", "ps-vae-micro-T/f8d16", "rae-micro-T/f4d32"])
def test_saved_models_stand_alone(name, tmp_path, x):
    model = create_model(name, resolution=64).eval()
    assert AutoencoderConfig.from_dict(model.config.to_dict()) == model.config
    model.save_pretrained(tmp_path)
    loaded = Autoencoder.from_pretrained(tmp_path)
    assert loaded.config == model.config
    assert torch.equal(loaded.encode(x), model.encode(x))
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {n for n, p in loaded.named_parameters() if not p.requires_grad}
    tokenizer = open_tokenizer(tmp_path)
    assert torch.equal(tokenizer.posterior(x).mean, model.posterior(x).mean)
    assert (tokenizer.facts.compression, tokenizer.facts.channels) == (
        model.config.compression,
        model.config.latent_dim,
    )
    if not model.config.has_pixels:
        with pytest.raises(TokenizerError, match=rf"{name} has no pixels"):
            tokenizer.decode(torch.zeros(1, 16, 8, 8))
        assert "it has no pixels" in (tmp_path / "README.md").read_text()


def test_what_a_family_lacks_is_refused_by_name(x):
    s_vae, rae, vit = (create_model(name) for name in ("s-vae-micro-T/f4d16", "rae-micro-T/f4d32", "vit-micro-T/f4d4"))
    for call in (lambda: s_vae(x), lambda: s_vae.decode(torch.zeros(1, 16, 8, 8)), lambda: s_vae.last_decoder_layer):
        with pytest.raises(ValueError, match=r"s-vae-micro-T/f4d16 has no pixels: .*a ps-vae of the same size"):
            call()
    with pytest.raises(ValueError, match="no pixel decoder and so no phase 'pixel'"):
        enter_phase(s_vae, "pixel")
    with pytest.raises(ValueError, match="no semantic decoder and so no phase 'semantic'"):
        enter_phase(rae, "semantic")
    with pytest.raises(ValueError, match="phase='third' does not exist"):
        enter_phase(rae, "third")
    with pytest.raises(ValueError, match="vit-micro-T/f4d4 does not stand on a vision network"):
        enter_phase(vit, "pixel")
    for model in (rae, vit):
        with pytest.raises(ValueError, match=f"{model.config.name} decodes latents to pixels, not to features"):
            model.semantics(torch.zeros(1, model.config.latent_dim, 8, 8))
    with pytest.raises(ValueError, match=r"shape \(B, 16, h, w\)"):
        s_vae.semantics(torch.zeros(1, 8, 8, 8))


def test_a_twin_sees_what_its_model_sees(x):
    model = create_model("ps-vae-micro-T/f8d16", resize="bilinear", normalise="none")
    twin = load_twin(model.config, RANDOM)
    adopt(model, twin)
    assert torch.equal(model.encoder.trunk(x), twin(x, (4, 4)))
    assert twin is load_twin(model.config, RANDOM)
    with pytest.raises(ValueError, match="vit-micro-T/f4d4 does not stand on a vision network"):
        load_twin(model_config("vit-micro-T/f4d4"))


def test_other_twins_and_other_beginnings_are_refused_by_name(twin):
    model = create_model("ps-vae-micro-T/f4d16")
    with pytest.raises(ValueError, match=r"stands on vit_micro_T_patch4 .*the twin is vit_micro_B_patch4"):
        adopt(model, FeatureNetwork("vit_micro_B_patch4", RANDOM, RAE_VIEW))
    with pytest.raises(ValueError, match=r"the twin is vit_micro_T_patch4 seen with View\(resize='bilinear'"):
        adopt(model, FeatureNetwork(NETWORK, RANDOM))
    with pytest.raises(ValueError, match=r"encoder.network is 'vit_micro_T_patch4' here, 'vit_micro_B_patch4' there"):
        inherit(model, create_model("s-vae-micro-B/f4d16"))
    with pytest.raises(ValueError, match=r"decoder.latent_dim is 16 here, 8 there"):
        inherit(model, create_model("s-vae-micro-T/f4d16", latent_dim=8))
    with pytest.raises(ValueError, match="vit-micro-T/f4d4 is neither s-vae nor ps-vae"):
        inherit(model, create_model("vit-micro-T/f4d4"))


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        (
            "ps-vae-L/f16d96",
            {"network": "resnet50"},
            "network='resnet50' is not known; choose one of vit_small_patch14",
        ),
        ("ps-vae-L/f16d96", {"resize": "nearest"}, "resize='nearest' does not exist; choose one of bicubic, bilinear"),
        ("ps-vae-L/f16d96", {"normalise": "imagenet"}, "normalise='imagenet' does not exist"),
        ("ps-vae-L/f16d96", {"position": "none"}, "position='none' has nothing to act on in ps-vae-L/f16d96"),
        ("vit-T/f16d32", {"network": NETWORK}, "has nothing to act on in vit-T/f16d32"),
        (
            "rae-L/f16d1024",
            {"latent_dim": 96},
            "its latent is the features of vit_large.* so latent_dim is 1024, not 96",
        ),
        ("rae-L/f16d1024", {"posterior_init": "narrow"}, "posterior_init has nothing to act on in rae-L/f16d1024"),
        ("s-vae-H/f16d96", {}, "the sizes of s-vae at f16d96 are T, B, L, G"),
        ("s-vae-L/f8d16", {}, "s-vae exists at f16d96"),
        ("ps-vea-L/f16d96", {}, "the families are transvae, cnn, vit, swin, s-vae, ps-vae, rae"),
        ("ps-vae-L/f16d96", {"resolution": 200}, "resolution=200 is not a multiple of the compression 16"),
    ],
)
def test_impossible_models_are_refused_by_name(name, overrides, message):
    with pytest.raises(ValueError, match=message):
        model_config(name, **overrides)


@pytest.mark.parametrize(
    ("side", "changes", "message"),
    [
        ("decoder", {"widths": (8,)}, "1 levels .8,. enlarge by 2, not by cell=4"),
        ("decoder", {"network": "vit_micro_B_patch4"}, "the semantic decoder answers features of vit_micro_B_patch4"),
        ("encoder", {"hidden": ()}, "hidden=.* must be positive widths"),
        ("encoder", {"cell": 8}, "compresses by 8"),
        ("decoder", {"residual": -1}, "residual=-1"),
    ],
)
def test_sides_that_do_not_fit_are_refused(side, changes, message):
    config = model_config("ps-vae-micro-T/f4d16")
    with pytest.raises(ValueError, match=message):
        replace(config, **{side: replace(getattr(config, side), **changes)})


def test_gradient_checkpointing_changes_no_gradient(twin, x):
    gradients = []
    for enabled in (False, True):
        torch.manual_seed(0)
        model = create_model("ps-vae-micro-T/f4d16").train()
        model.enable_gradient_checkpointing(enabled)
        model(x, noise=torch.ones(2, 16, 8, 8))[0].square().mean().backward()
        gradients.append([p.grad for p in model.encoder.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)
    config = model_config("ps-vae-micro-L/f4d16")
    kept = [count_activations(config, 32, bf16=False, checkpointing=enabled) for enabled in (False, True)]
    assert kept[1] < 0.8 * kept[0]


def test_creation_is_a_function_of_torchs_seed():
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(create_model("ps-vae-micro-T/f4d16").state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert all(value.isfinite().all() for value in states[0].values())
