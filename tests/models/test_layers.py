"""Positions, attention, windows, resamplers, groups and the initialisation."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from transvae.layers import attention as attention_module
from transvae.layers.attention import SelfAttention, attention, attention_backend, sdpa
from transvae.layers.initialise import initialise
from transvae.layers.normalisation import RMSNorm, groups
from transvae.layers.position import LearnedGrid, rope_tables, rotate
from transvae.layers.resample import DCDown, DCUp, PatchExpand, PatchMerge, average_groups
from transvae.layers.window import WindowAttention, cut, merge, partition, window_mask
from transvae.registry import create_model
from transvae.sizes import FAMILIES

CPU = torch.device("cpu")


def _score(grid, first, second, dtype=torch.float32):
    """The score of one query and one key, placed at two positions of a grid x grid map."""
    generator = torch.Generator().manual_seed(7)
    q, k = (torch.randn(64, generator=generator).to(dtype).expand(1, grid * grid, 1, 64) for _ in range(2))
    q, k = rotate(q, grid, grid), rotate(k, grid, grid)
    return (q[0, first[0] * grid + first[1], 0] * k[0, second[0] * grid + second[1], 0]).float().sum().item()


@pytest.mark.parametrize("offset", [(0, 0), (3, 1), (-2, 4)])
def test_rope_scores_depend_on_the_offset_only(offset):
    places = [(8, (2, 1)), (8, (3, 3)), (40, (20, 30)), (128, (100, 90))]
    scores = [_score(grid, (y, x), (y + offset[0], x + offset[1])) for grid, (y, x) in places]
    assert scores == pytest.approx([scores[0]] * len(scores), abs=2e-4)
    assert _score(40, (20, 30), (20, 30)) != pytest.approx(_score(40, (20, 30), (23, 31)), abs=1e-2)


def test_rope_keeps_its_property_under_bf16():
    exact = _score(128, (100, 90), (103, 91))
    half = [_score(grid, (y, x), (y + 3, x + 1), torch.bfloat16) for grid, (y, x) in ((8, (2, 1)), (128, (100, 90)))]
    # Rounding of 64 products in bf16, not an error of the angles, which are made in fp32.
    assert half == pytest.approx([exact, exact], abs=0.15)


def test_rope_tables_in_bf16_are_rounded_fp32_tables():
    for exact, half in zip(
        rope_tables(128, 128, 64, CPU, torch.float32), rope_tables(128, 128, 64, CPU, torch.bfloat16), strict=True
    ):
        assert half.dtype == torch.bfloat16
        assert (half.float() - exact).abs().max() < 0.004


def test_rope_keeps_lengths_and_caches():
    q = torch.randn(2, 12, 3, 8)
    torch.testing.assert_close(rotate(q, 3, 4).norm(dim=-1), q.norm(dim=-1))
    assert rope_tables(3, 4, 8, CPU, torch.float32)[0] is rope_tables(3, 4, 8, CPU, torch.float32)[0]


def test_a_learned_grid_is_resized():
    grid = LearnedGrid(4, 2)
    nn.init.normal_(grid.table)
    x = torch.zeros(1, 2, 2, 4)
    torch.testing.assert_close(grid(x)[0], grid.table.permute(1, 2, 0))
    assert grid(torch.zeros(1, 6, 4, 4)).shape == (1, 6, 4, 4)


def test_attention_is_softmax_attention():
    q, k, v = (torch.randn(2, 9, 3, 8) for _ in range(3))
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / 8**0.5
    expected = torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), v)
    torch.testing.assert_close(attention(q, k, v), expected, rtol=1e-4, atol=1e-5)
    bias = torch.randn(1, 3, 9, 9)
    expected = torch.einsum("bhnm,bmhd->bnhd", (scores + bias).softmax(-1), v)
    torch.testing.assert_close(attention(q, k, v, bias), expected, rtol=1e-4, atol=1e-5)


def test_the_backend_is_chosen_once_and_readable():
    assert attention_backend() in ("sdpa", "sdpa+FA3", "sdpa+FA4", "flash-attn")
    assert attention_backend() == attention_backend()
    if not torch.cuda.is_available():
        assert attention_backend() == "sdpa"


def test_flash_serves_only_what_it_can(monkeypatch):
    """On CPU the call falls through to SDPA even when flash-attn is the backend of the process."""
    monkeypatch.setattr(attention_module, "attention_backend", lambda: "flash-attn")
    q = torch.randn(1, 4, 2, 8, dtype=torch.bfloat16)
    torch.testing.assert_close(attention(q, q, q), sdpa(q, q, q))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("tokens", [256, 1000])
def test_kernels_agree_on_a_gpu(dtype, tokens):
    q, k, v = (torch.randn(2, tokens, 4, 64, device="cuda", dtype=dtype, requires_grad=True) for _ in range(3))
    exact = sdpa(*(t.detach().cpu().float() for t in (q, k, v)))
    ours, torchs = attention(q, k, v), sdpa(q, k, v)
    tolerance = {"rtol": 2e-2, "atol": 2e-2}
    torch.testing.assert_close(ours.cpu().float(), exact, **tolerance)
    torch.testing.assert_close(ours, torchs, **tolerance)
    for a, b in zip(
        torch.autograd.grad(ours.float().square().sum(), (q, k, v)),
        torch.autograd.grad(torchs.float().square().sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=5e-2, atol=5e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_flash_attn_is_used_where_installed():
    flash = pytest.importorskip("flash_attn")
    assert attention_backend() == "flash-attn"
    q = torch.randn(1, 64, 2, 64, device="cuda", dtype=torch.bfloat16)
    torch.testing.assert_close(attention(q, q, q), flash.flash_attn_func(q, q, q))


@pytest.mark.parametrize(
    ("size", "sides", "padded", "shifts"),
    [
        ((16, 16), (8, 8), (16, 16), (4, 4)),
        ((8, 8), (8, 8), (8, 8), (0, 0)),
        ((4, 20), (4, 8), (4, 24), (0, 4)),
        ((13, 8), (8, 8), (16, 8), (4, 0)),
    ],
)
def test_windows_fit_the_map(size, sides, padded, shifts):
    windows = cut(*size, window=8, shifted=True)
    assert (windows.sides, windows.padded, windows.shifts) == (sides, padded, shifts)
    assert cut(*size, window=8, shifted=False).shifts == (0, 0)


def test_partition_and_merge_are_inverse():
    x = torch.randn(2, 8, 12, 5)
    assert torch.equal(merge(partition(x, (4, 4)), (4, 4), 8, 12), x)


def _dense_window_attention(layer, x):
    """The same attention over all tokens of one map, with what a window forbids masked out one pair at a time."""
    height, width = x.shape[1:3]
    windows = cut(height, width, layer.window, layer.shifted)
    index = torch.arange(height * width).view(height, width)

    def window_of(position, direction):
        side, shift = windows.sides[direction], windows.shifts[direction]
        return (position - shift) // side  # -1 is the part cut off before the first shifted window

    bias = torch.full((x.shape[-1] // layer.head_dim, height * width, height * width), float("-inf"))
    for y in range(height):
        for x_ in range(width):
            for v in range(height):
                for u in range(width):
                    same = all(window_of(a, i) == window_of(b, i) for i, (a, b) in enumerate(((y, v), (x_, u))))
                    if same:
                        offset = (y - v + layer.window - 1) * (2 * layer.window - 1) + x_ - u + layer.window - 1
                        bias[:, index[y, x_], index[v, u]] = layer.table[offset]
    q, k, v = layer.qkv(x).view(1, height * width, 3, -1, layer.head_dim).unbind(2)
    return layer.out(attention(q, k, v, bias[None]).reshape(x.shape))


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (4, 4), (6, 7), (3, 9), (2, 3)])
@torch.no_grad()
def test_window_attention_equals_masked_dense_attention(size, shifted):
    layer = WindowAttention(8, 4, window=4, shifted=shifted)
    for p in layer.parameters():
        nn.init.normal_(p, std=0.5)
    x = torch.randn(1, *size, 8)
    torch.testing.assert_close(layer(x), _dense_window_attention(layer, x), rtol=1e-4, atol=1e-5)


def test_window_masks_are_cached_and_absent_where_nothing_is_hidden():
    whole, shifted = cut(8, 8, 4, False), cut(8, 8, 4, True)
    assert window_mask(8, 8, whole, CPU) is None
    assert window_mask(8, 8, shifted, CPU) is window_mask(8, 8, shifted, CPU)


def test_the_average_shortcut():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    torch.testing.assert_close(average_groups(x, 1), F.avg_pool2d(x, 2))
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(average_groups(x, 4), F.avg_pool2d(x, 2))
    assert average_groups(x, 8).shape == (2, 8, 3, 3)


def test_the_duplicate_shortcut_is_nearest_upsampling_at_equal_widths():
    up = DCUp(4, 4, dc_path=True)
    for p in up.parameters():
        nn.init.zeros_(p)
    x = torch.randn(1, 4, 3, 5)
    torch.testing.assert_close(up(x), F.interpolate(x, scale_factor=2.0, mode="nearest"))


def test_down_equals_unshuffle_and_a_one_by_one_convolution():
    down = DCDown(3, 6, dc_path=False)
    x = torch.randn(1, 3, 8, 4)
    expected = F.conv2d(F.pixel_unshuffle(x, 2), down.conv.weight.reshape(6, 12, 1, 1))
    torch.testing.assert_close(down(x), expected)


def test_swin_resamplers_change_shapes():
    x = torch.randn(2, 4, 6, 8)
    assert PatchMerge(8)(x).shape == (2, 2, 3, 16)
    assert PatchExpand(8)(x).shape == (2, 8, 12, 4)


@pytest.mark.parametrize(
    ("channels", "expected"), [(128, 32), (192, 32), (3072, 32), (144, 24), (28, 7), (8, 2), (3, 1)]
)
def test_groups_divide(channels, expected):
    assert groups(channels) == expected


def test_rms_norm():
    norm = RMSNorm(8)
    nn.init.ones_(norm.weight)
    x = torch.randn(3, 8) * 5
    torch.testing.assert_close(norm(x).square().mean(-1), torch.ones(3), rtol=1e-4, atol=1e-4)
    assert norm(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("family", FAMILIES)
def test_one_initialisation_for_all_families(family):
    model = create_model(f"{family}-micro-L/f8d8", posterior_init="standard")
    zeroed = 0
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert module.bias is None or not module.bias.any()
            if getattr(module, "is_branch_output", False):
                zeroed += 1
                assert not module.weight.any()
            elif module.weight.numel() > 2000:
                fan_in = module.weight[0].numel()
                assert module.weight.std().item() == pytest.approx(fan_in**-0.5, rel=0.1)
    assert zeroed >= 4


@pytest.mark.parametrize("family", FAMILIES)
def test_the_posterior_starts_as_named(family):
    x = torch.rand(4, 3, 32, 32) * 2 - 1
    logvars = {}
    for init in ("standard", "narrow"):
        logvars[init] = create_model(f"{family}-micro-T/f8d8", posterior_init=init).posterior(x).logvar
    assert logvars["standard"].mean().abs() < 1.5
    assert logvars["narrow"].mean().item() == pytest.approx(-8.0, abs=0.2)


def test_a_module_without_a_rule_is_not_left_uninitialised():
    with pytest.raises(TypeError, match="no initialisation rule for PReLU"):
        initialise(nn.Sequential(nn.Linear(2, 2), nn.PReLU()))


def test_attention_uses_positions():
    layer = SelfAttention(16, 8, rope=True, qk_norm=True, bias=False)
    initialise(layer)
    nn.init.normal_(layer.out.weight)
    x = torch.randn(1, 4, 4, 16)
    assert not torch.allclose(layer(x).flip(1), layer(x.flip(1)), atol=1e-4)
    layer.rope = False
    torch.testing.assert_close(layer(x).flip(1), layer(x.flip(1)), rtol=1e-4, atol=1e-5)
