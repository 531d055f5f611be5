"""LightningDiT: its published counts, what it begins as, what depends on what."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from transvae.generation import create_dit, dit_config
from transvae.generation.lightning_dit import (
    LightningDiT,
    modulated_norm,
    rotate_pairs,
    rotations,
    sincos,
    time_features,
)
from transvae.layers.normalisation import RMSNorm

TRAINABLE = {  # millions, and GFLOP of a forward pass (2 per multiply-add) without the scores of attention
    ("B/1", 32, 16): (130.360, 43.60),
    ("B/2", 16, 32): (130.409, 43.63),
    ("L/2", 16, 32): (457.956, 154.97),
    ("XL/1", 32, 16): (674.962, 228.80),
    ("XL/2", 16, 32): (675.036, 228.83),
    ("1p0B/1", 32, 16): (1029.0, 348.64),
    ("1p6B/1", 32, 16): (1631.3, 553.55),
}


def small(**changes):
    torch.manual_seed(0)
    return LightningDiT(dit_config("lightning_dit-micro-S/2", 4, 8, **{"classes": 10, **changes}))


def awake(model):
    """A network whose zero-initialised layers have values: before that it answers zero whatever it sees."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.mark.parametrize(("name", "dim", "size"), TRAINABLE)
def test_counts_are_those_of_the_reference(name, dim, size):
    """XL/1: 675.26 M in LightningDiT's log, of which 0.295 M are the fixed embedding."""
    with torch.device("meta"):
        model = create_dit(f"lightning_dit-{name}", dim, size)
    millions, gflop = TRAINABLE[name, dim, size]
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(
        millions, abs=0.06 if millions > 1e3 else 5e-4
    )
    with FlopCounterMode(display=False) as counter:
        label = torch.zeros(1, dtype=torch.long, device="meta")
        model(torch.empty(1, dim, size, size, device="meta"), torch.empty(1, device="meta"), label)
    config = model.config
    scores = config.depth * 4 * config.grid**4 * config.width  # two products of N x N x C, 2 FLOPs each
    assert (counter.get_total_flops() - scores) / 1e9 == pytest.approx(gflop, abs=0.006)


def test_a_fresh_network_answers_zero():
    x, t, y = torch.randn(3, 4, 8, 8), torch.rand(3), torch.tensor([0, 9, 10])
    assert not small()(x, t, y).any()


def test_time_and_label_change_the_answer_and_samples_do_not_meet():
    model, x = awake(small()), torch.randn(3, 4, 8, 8)
    t, y = torch.tensor([0.2, 0.5, 0.9]), torch.tensor([0, 9, 10])
    answer = model(x, t, y)
    assert answer.shape == x.shape
    assert not torch.allclose(answer, model(x, t.flip(0), y), atol=1e-3)
    assert not torch.allclose(answer, model(x, t, y.flip(0)), atol=1e-3)
    torch.testing.assert_close(model(x[1:2], t[1:2], y[1:2]), answer[1:2], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("qk_norm", [False, True])
def test_checkpointed_blocks_give_the_same_gradients(qk_norm):
    x, t, y = torch.randn(2, 4, 8, 8), torch.rand(2), torch.tensor([1, 2])
    gradients = []
    for checkpointing in (False, True):
        model = awake(small(qk_norm=qk_norm)).train()
        model.gradient_checkpointing = checkpointing
        model(x, t, y).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)


def test_scores_depend_on_distances_only():
    """Turned queries and keys: moving both tokens by one row changes no product."""
    torch.manual_seed(0)
    cos, sin = rotations(4, 8)
    q, k = torch.randn(2, 8)
    everywhere = [rotate_pairs(t.expand(1, 16, 1, 8), cos, sin)[0, :, 0] for t in (q, k)]
    scores = (everywhere[0] @ everywhere[1].T).view(4, 4, 4, 4)
    torch.testing.assert_close(scores[0, 0, 1, 2], scores[2, 1, 3, 3])
    torch.testing.assert_close(scores[1, 3, 0, 3], scores[3, 0, 2, 0])
    assert not torch.isclose(scores[0, 0, 1, 2], scores[0, 0, 2, 1], atol=1e-4), "rows and columns are told apart"


def test_first_pair_turns_by_the_row():
    cos, sin = rotations(3, 8)
    turned = rotate_pairs(torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 0]).expand(1, 9, 1, 8), cos, sin)
    expected = torch.tensor([[math.cos(row), math.sin(row)] for row in (0, 0, 0, 1, 1, 1, 2, 2, 2)])
    torch.testing.assert_close(turned[0, :, 0, :2], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_every_pair_turns_by_its_angle_in_every_precision(dtype):
    """float32 goes by complex numbers, others by real ones."""
    cos, sin = rotations(2, 8)
    x = torch.randn(2, 4, 3, 8).to(dtype).requires_grad_()
    turned = rotate_pairs(x, cos, sin)
    assert turned.dtype == dtype
    even, odd = x.detach().double()[..., ::2], x.detach().double()[..., 1::2]
    c, s = cos.double()[:, None], sin.double()[:, None]
    expected = torch.stack([even * c - odd * s, odd * c + even * s], dim=-1).flatten(-2)
    close = {"atol": 3e-2, "rtol": 0} if dtype == torch.bfloat16 else {"atol": 1e-6, "rtol": 1e-6}
    torch.testing.assert_close(turned.double(), expected, **close)
    weight = torch.randn(2, 4, 3, 8).to(dtype)
    (gradient,) = torch.autograd.grad((turned * weight).sum(), x)
    even, odd = weight.double()[..., ::2], weight.double()[..., 1::2]
    back = torch.stack([even * c + odd * s, odd * c - even * s], dim=-1).flatten(-2)  # by the angle back
    torch.testing.assert_close(gradient.double(), back, **close)


def test_the_norms_weight_joins_the_scale():
    """Against the norm, then the modulation, in float64."""
    norm = RMSNorm(12)
    x, shift, scale = (torch.randn(shape, dtype=torch.float64) for shape in ((2, 5, 12), (2, 12), (2, 12)))
    with torch.no_grad():
        norm.weight.normal_()
    weight = norm.weight.detach().double()
    normed = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight
    expected = normed * (1 + scale[:, None]) + shift[:, None]
    found = modulated_norm(norm, x.float(), shift.float(), scale.float())
    torch.testing.assert_close(found.double(), expected, atol=2e-6, rtol=2e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = modulated_norm(norm, x.float(), shift.bfloat16(), scale.bfloat16())
    torch.testing.assert_close(half.double(), expected, atol=3e-2, rtol=3e-2)


def test_fixed_tables_are_those_of_mae_and_dit():
    table = sincos(3, 8)
    row, column = 2, 1
    expected = [f(place * w) for place in (column, row) for f in (math.sin, math.cos) for w in (1, 10_000**-0.5)]
    torch.testing.assert_close(table[row * 3 + column], torch.tensor(expected), atol=1e-6, rtol=0)
    features = time_features(torch.tensor([0.25]))
    assert features.shape == (1, 256)
    assert features[0, 0] == pytest.approx(math.cos(0.25))
    assert features[0, 128 + 64] == pytest.approx(math.sin(0.25 / 100))


def test_checkpoints_hold_no_fixed_tables():
    assert not {"cos_Nd", "sin_Nd", "position_NC"} & small().state_dict().keys()


@pytest.mark.parametrize(
    ("name", "latent", "message"),
    [
        ("lightning_dit-B/3", (32, 16), "patches of 3 do not divide a latent of 16 positions per side"),
        ("lightning_dit-M/1", (32, 16), "is no DiT - the sizes, with any patch: lightning_dit-B/1"),
        ("lightning_dit-B", (32, 16), "is no DiT"),
        ("B/1", (32, 16), "is no DiT"),
    ],
)
def test_what_does_not_fit_is_named(name, latent, message):
    with pytest.raises(ValueError, match=message):
        dit_config(name, *latent)


def test_latents_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"latents of shape \(4, 16, 16\), the network is for \(4, 8, 8\)"):
        small()(torch.zeros(1, 4, 16, 16), torch.zeros(1), torch.zeros(1, dtype=torch.long))
