"""Every switch of the paper's ablations: the counts it must give, and the combinations that cannot exist."""

import pytest
import torch

from transvae.accounting import count_model, count_parameters
from transvae.registry import create_model, list_models, model_config

MULTI = {"stages": "multi"}
FULL = {**MULTI, "ffn": "fullconv"}

# name, overrides, encoder and decoder parameters in millions, encoder and decoder forward GFLOP at 256x256.
AT_TINY = [
    ("vit-T/f16d32", {"position": "rope"}, 25.602, 25.193, 14.2, 14.0),
    ("vit-T/f16d32", {"position": "none"}, 25.602, 25.193, 14.2, 14.0),
    ("vit-T/f16d32", {"position": "learned"}, 25.733, 25.324, 14.2, 14.0),
    ("vit-T/f16d32", {"stem": "seqconv"}, 26.760, 25.193, 15.8, 14.0),
    ("vit-T/f16d32", {"head": "seqconv"}, 25.602, 26.743, 14.2, 21.4),
    ("vit-T/f16d32", {"stem": "seqconv", "head": "seqconv"}, 26.760, 26.743, 15.8, 21.4),
    ("vit-T/f16d32", {"stem": "seqconv", "head": "seqconv", "ffn": "dwconv"}, 26.908, 26.891, 15.9, 21.5),
    ("vit-T/f16d32", {"stem": "seqconv", "head": "seqconv", "ffn": "fullconv"}, 33.052, 33.035, 19.1, 24.7),
    ("vit-T/f16d32", MULTI, 17.226, 18.307, 233.7, 265.9),
    ("vit-T/f16d32", {**MULTI, "ffn": "dwconv"}, 17.337, 18.417, 234.1, 266.2),
    ("vit-T/f16d32", FULL, 20.765, 21.846, 241.0, 273.1),
    ("vit-T/f16d32", {**FULL, "norm": "rms"}, 20.758, 21.839, 241.0, 273.1),
    ("vit-T/f16d32", {**FULL, "dc_path": True}, 20.765, 22.829, 241.0, 277.2),
    ("vit-T/f16d32", {**FULL, "norm": "rms", "dc_path": True}, 20.758, 22.823, 241.0, 277.2),
    ("transvae-T/f16d32", {"norm": "layer", "dc_path": False}, 20.765, 21.846, 241.0, 273.1),
]

CNN_ATTENTION = [
    ("T", True, True, 28.417, 41.419),
    ("T", False, True, 26.314, 38.264),
    ("T", True, False, 27.366, 40.367),
    ("T", False, False, 25.262, 37.212),
    ("B", True, True, 63.686, 93.044),
    ("B", False, True, 58.958, 85.952),
    ("B", True, False, 61.322, 90.680),
    ("B", False, False, 56.594, 83.588),
    ("L", True, True, 332.216, 371.587),
    ("L", False, True, 303.876, 343.248),
    ("L", True, False, 322.769, 362.140),
    ("L", False, False, 294.430, 333.801),
]

DC_PATH_COST = {"T": 0.983, "B": 2.818, "L": 6.341, "H": 11.272, "G": 17.613}

NO_ATTENTION = {"stage_attention": False, "mid_attention": False}
ASYMMETRIC = [
    ("cnn-T/f16d32", {"encoder": "transvae", **NO_ATTENTION}, 57.970, 490.5),
    ("cnn-T/f16d32", {"encoder": "transvae"}, 62.177, 493.2),
    ("transvae-T/f16d32", {"decoder": "cnn"}, 62.177, 493.2),
    ("vit-T/f16d32", {"decoder": "cnn", **NO_ATTENTION}, 62.814, 264.0),
    ("vit-T/f16d32", {"decoder": "cnn"}, 67.021, 266.4),
]


def _millions(name, overrides):
    encoder, decoder = count_parameters(model_config(name, **overrides))
    return encoder / 1e6, decoder / 1e6


@pytest.mark.parametrize(("name", "overrides", "encoder", "decoder", "encoder_gf", "decoder_gf"), AT_TINY)
def test_transformer_ablations_at_tiny(name, overrides, encoder, decoder, encoder_gf, decoder_gf):
    assert _millions(name, overrides) == pytest.approx((encoder, decoder), abs=6e-4)
    cost = count_model(model_config(name, **overrides))
    flops = (cost.encoder_forward_flops / 1e9, cost.decoder_forward_flops / 1e9)
    assert flops == pytest.approx((encoder_gf, decoder_gf), abs=0.06)


@pytest.mark.parametrize(("size", "stage", "mid", "encoder", "decoder"), CNN_ATTENTION)
def test_attention_in_the_cnn(size, stage, mid, encoder, decoder):
    overrides = {"stage_attention": stage, "mid_attention": mid}
    assert _millions(f"cnn-{size}/f16d32", overrides) == pytest.approx((encoder, decoder), abs=6e-4)


@pytest.mark.parametrize(("size", "millions"), DC_PATH_COST.items())
def test_the_dc_path_costs_only_in_the_decoder(size, millions):
    name = f"transvae-{size}/f16d32"
    with_path, without = _millions(name, {}), _millions(name, {"dc_path": False})
    assert with_path[0] == without[0]
    assert with_path[1] - without[1] == pytest.approx(millions, abs=6e-4)


@pytest.mark.parametrize(
    ("size", "standard", "dwconv", "fullconv"),
    [("B", 112.738, 113.125, 137.510), ("L", 437.016, 437.983, 538.760)],
)
def test_ffn_totals_of_larger_multi_stage_models(size, standard, dwconv, fullconv):
    for kind, millions in (("standard", standard), ("dwconv", dwconv), ("fullconv", fullconv)):
        sides = _millions(f"vit-{size}/f16d32", {**MULTI, "ffn": kind})
        assert sum(sides) == pytest.approx(millions, abs=6e-4)


@pytest.mark.parametrize(("name", "overrides", "millions", "gflops"), ASYMMETRIC)
def test_a_transformer_encoder_with_a_cnn_decoder(name, overrides, millions, gflops):
    assert sum(_millions(name, overrides)) == pytest.approx(millions, abs=6e-4)
    cost = count_model(model_config(name, **overrides))
    assert cost.forward_flops / 1e9 == pytest.approx(gflops, rel=0.002)


@pytest.mark.parametrize(("size", "extra"), [("T", 131_072), ("L", 262_144), ("G", 524_288)])
def test_learned_positions_add_one_grid_per_side(size, extra):
    name = f"vit-{size}/f16d32"
    learned, rope = (count_parameters(model_config(name, position=p)) for p in ("learned", "rope"))
    assert (learned[0] - rope[0], learned[1] - rope[1]) == (extra, extra)


def test_a_standard_ffn_may_match_the_full_convolution():
    full = count_parameters(model_config("transvae-T/f16d32"))
    assert count_parameters(model_config("transvae-T/f16d32", ffn="standard", ffn_ratio=5.5)) == full


def test_single_stage_keeps_the_block_and_changes_the_skeleton():
    config = model_config("transvae-T/f16d32", stages="single")
    assert (config.encoder.family, config.encoder.ffn, config.encoder.norm) == ("vit", "fullconv", "rms")


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("vit-T/f16d32", {"stages": "multi", "head": "seqconv"}, "nothing to act on"),
        ("vit-T/f16d32", {"dc_path": False}, "nothing to act on"),
        ("vit-T/f16d32", {"stage_attention": False}, "nothing to act on"),
        ("cnn-T/f16d32", {"position": "rope"}, "nothing to act on"),
        ("swin-T/f16d32", {"ffn": "fullconv"}, "nothing to act on"),
        ("transvae-T/f16d32", {"stem": "seqconv"}, "nothing to act on"),
        ("cnn-T/f16d32", {"stages": "multi"}, "moves transformer blocks"),
        ("transvae-T/f16d32", {"stages": "multi"}, "multi stages already"),
        ("vit-T/f16d32", {"stages": "triple"}, "choose 'single' or 'multi'"),
        ("vit-T/f16d32", {"position": "sincos"}, "choose one of rope, learned, none"),
        ("vit-T/f16d32", {"ffn": "glu"}, "choose one of standard, dwconv, fullconv"),
        ("vit-T/f16d32", {"norm": "batch"}, "choose one of rms, layer"),
        ("vit-T/f16d32", {"stem": "linear"}, "decoder head"),
        ("vit-T/f16d32", {"ffn_ratio": 0.0}, "not a positive whole number"),
        ("transvae-T/f16d32", {"res_stages": 6}, "of 5 stages"),
        ("transvae-T/f16d32", {"res_stages": 5, "position": "learned"}, "no attention stage"),
        ("vit-micro-T/f8d8", {"head": "patch"}, "divisible by patch"),
        ("vit-T/f16d32", {"resolution": 250}, "not a multiple of the compression"),
        ("vit-T/f16d32", {"posterior_init": "wide"}, "choose one of standard, narrow"),
        ("transvae-L/f8d16", {"decoder": "cnn"}, "no cnn-L/f8d16"),
        ("transvae-T/f16d32", {"decoder": "resnet"}, "is not a family"),
        ("transvae-T/f16d32", {"latent_dim": 0}, "must be positive"),
    ],
)
def test_impossible_combinations_are_refused_when_the_configuration_is_built(name, overrides, message):
    with pytest.raises(ValueError, match=message):
        model_config(name, **overrides)


@pytest.mark.parametrize(
    ("family", "overrides"),
    [
        ("transvae", {"position": "learned", "qk_norm": False}),
        ("transvae", {"position": "none", "norm": "layer", "dc_path": False}),
        ("transvae", {"ffn": "dwconv"}),
        ("transvae", {"ffn": "standard", "res_stages": 3}),
        ("transvae", {"stages": "single"}),
        ("transvae", {"decoder": "cnn", "mid_attention": False}),
        ("vit", {"position": "learned", "ffn": "fullconv"}),
        ("vit", {"stem": "seqconv", "head": "seqconv", "norm": "rms"}),
        ("vit", {"stages": "multi"}),
        ("vit", {"decoder": "swin"}),
        ("cnn", {"stage_attention": False, "mid_attention": False, "encoder_blocks": 2}),
        ("cnn", {"encoder": "swin", "posterior_init": "standard"}),
    ],
)
def test_ablated_models_train(family, overrides):
    model = create_model(f"{family}-micro-B/f8d8", **overrides).train()
    x = torch.rand(2, 3, 32, 48) * 2 - 1
    reconstruction, mu, _ = model(x)
    (reconstruction.square().mean() + mu.square().mean()).backward()
    assert reconstruction.shape == x.shape
    assert all(p.grad is not None for p in model.parameters())


def test_every_paper_size_has_every_family_pair():
    for name in list_models("*-T/f16d32"):
        for family in ("transvae", "cnn", "vit", "swin"):
            assert model_config(name, decoder=family).decoder.family == family
