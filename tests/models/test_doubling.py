"""Nearest x2 and conv3x3 in one: the same map as the two steps."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from transvae.layers import resample
from transvae.layers.resample import FOLDED_FROM, NearestUp, double_and_convolve


def two_steps(x, conv):
    return conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def a_conv(a, b, bias):
    torch.manual_seed(0)
    return nn.Conv2d(a, b, 3, padding=1, bias=bias).double()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (25, 41), (1, 1024)])
@pytest.mark.parametrize(("a", "b", "bias"), [(3, 5, True), (4, 2, False)])
def test_folded_weights_are_the_same_map_with_the_same_gradients(height, width, a, b, bias):
    conv = a_conv(a, b, bias)
    x = torch.randn(2, a, height, width, dtype=torch.float64, requires_grad=True)
    found, wanted = double_and_convolve(x, conv), two_steps(x, conv)
    torch.testing.assert_close(found, wanted)
    weights = [x, *conv.parameters()]
    upstream = torch.randn_like(wanted)
    for one, other in zip(
        torch.autograd.grad(found, weights, upstream), torch.autograd.grad(wanted, weights, upstream), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_large_maps_are_convolved_before_they_are_doubled(monkeypatch):
    """Else the test above compares the two steps with themselves."""
    monkeypatch.setattr(resample.F, "interpolate", lambda *_, **__: pytest.fail("doubled first"))
    side = int(FOLDED_FROM**0.5)
    up = NearestUp(4)
    assert up(torch.randn(1, 4, side, side)).shape == (1, 4, 2 * side, 2 * side)
    with pytest.raises(pytest.fail.Exception, match="doubled first"):
        up(torch.randn(1, 4, side, side - 1))


def test_autocast_takes_the_two_steps():
    up, x = NearestUp(4), torch.randn(1, 4, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(up(x), two_steps(x, up.conv))
        assert up(x).dtype == torch.bfloat16


def test_counted_operations_are_those_of_the_two_steps():
    """Costs are counted on meta tensors: a plan is for GPUs, and compares with others' counts."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        NearestUp(4)(torch.empty(1, 4, 32, 32))
    assert counter.get_total_flops() == 2 * 9 * 4 * 4 * 64 * 64
