"""Adaptive weights against gradients taken by hand, and over workers."""

import pytest
import torch
from torch import nn

from transvae.losses.adaptive import Balanced, BalancedConfig, Pull, gradient_ratios, weigh


def _network(x):
    """(reconstruction, middle, the two layers): a two-layer network on rows of `x`."""
    first, second = nn.Linear(4, 3), nn.Linear(3, 4)
    middle = torch.tanh(first(x))
    return second(middle), middle, first.weight, second.weight


def test_the_ratio_by_hand():
    """Squared error of a linear map, whose gradient is known in closed form."""
    x, target = torch.randn(8, 4), torch.randn(8, 3)
    layer = nn.Parameter(torch.randn(3, 4))
    y = x @ layer.T
    (ratio, clamped), *_ = gradient_ratios((y - target).square().sum(), [Pull(y.sum(), layer, 1e4)])
    x, w, target = x.double(), layer.detach().double(), target.double()
    of_nll = 2 * (x @ w.T - target).T @ x
    of_term = x.sum(dim=0).expand(3, 4)
    assert ratio.item() == pytest.approx((of_nll.norm() / (of_term.norm() + 1e-4)).item(), rel=1e-5)
    assert clamped.item() == 0
    assert not ratio.requires_grad


def test_a_term_that_does_not_pull_is_bounded_by_epsilon_and_the_clamp():
    layer = nn.Parameter(torch.ones(2))
    nll = 3 * layer.sum()
    (free, _), (cut, clamped) = gradient_ratios(
        nll, [Pull(0 * layer.sum(), layer, 1e6), Pull(0 * layer.sum(), layer, 1e3)]
    )
    assert free.item() == pytest.approx(3 * 2**0.5 / 1e-4, rel=1e-5)
    assert (cut.item(), clamped.item()) == (1e3, 1)


def test_two_layers_take_one_pass_through_the_reconstruction(monkeypatch):
    y, middle, first, second = _network(torch.randn(5, 4))
    nll, early, late = y.square().sum(), middle.sum(), y.sum()
    expected = [
        (torch.autograd.grad(nll, layer, retain_graph=True)[0].norm()
         / (torch.autograd.grad(term, layer, retain_graph=True)[0].norm() + 1e-4)).item()
        for term, layer in ((early, first), (late, second))
    ]  # fmt: skip
    passes, grad = [], torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda loss, *a, **k: passes.append(loss) or grad(loss, *a, **k))
    ratios = gradient_ratios(nll, [Pull(early, first, 1e8), Pull(late, second, 1e4)])
    assert [ratio.item() for ratio, _ in ratios] == pytest.approx(expected, rel=1e-6)
    assert sum(loss is nll for loss in passes) == 1
    nll.backward()  # the graph is still there
    assert first.grad is not None


def test_the_ratio_does_not_depend_on_the_number_of_workers():
    """Two workers with half the batch each, gradients averaged before the norms, against one with all of it."""
    x = torch.randn(8, 4)
    layer = nn.Parameter(torch.randn(3, 4))

    def pull(rows):
        y = torch.tanh(rows @ layer.T)
        return (y - 1).square().mean(), [Pull((y.sin() * y).mean(), layer, 1e4)]

    whole = gradient_ratios(*pull(x))[0][0]
    told = []
    for half in (x[:4], x[4:]):
        gradient_ratios(*pull(half), mean_over_workers=lambda flat: told.append(flat) or flat)
    assert len(told) == 2  # one vector from each worker
    mean = torch.stack(told).mean(dim=0)
    for half in (x[:4], x[4:]):
        ratio = gradient_ratios(*pull(half), mean_over_workers=lambda flat: mean)[0][0]
        torch.testing.assert_close(ratio, whole)
    alone = gradient_ratios(*pull(x[:4]))[0][0]
    assert abs(alone - whole) > 1e-3 * whole


def test_weights_in_the_units_of_the_reconstruction():
    """A weight and a bound written for sums are divided by the number of values."""
    layer = nn.Parameter(torch.tensor([2.0]))
    fixed = Balanced("fixed", layer.sum(), BalancedConfig(weight=3.0, adaptive=False, largest=1.0), None)
    free = Balanced("free", layer.sum(), BalancedConfig(weight=0.5, largest=100.0), layer)
    cut = Balanced("cut", layer.sum(), BalancedConfig(weight=0.5, largest=10.0), layer)
    weighted, record = weigh(7 * layer.sum(), [fixed, free, cut], unit=10.0)
    assert record["fixed_weight"].item() == pytest.approx(0.3)
    assert record["free_weight"].item() == pytest.approx(0.5 * 7, rel=1e-3)
    assert record["cut_weight"].item() == pytest.approx(0.5 * 1)
    assert (record["free_clamped"].item(), record["cut_clamped"].item()) == (0, 1)
    assert "fixed_clamped" not in record
    assert {name: loss.item() for name, loss in weighted.items()} == pytest.approx(
        {"fixed": 0.6, "free": 7.0, "cut": 1.0}, rel=1e-3
    )
    torch.testing.assert_close(torch.autograd.grad(weighted["free"], layer)[0], record["free_weight"][None])


def test_layers_without_gradients_are_refused():
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    other = nn.Parameter(torch.ones(2))
    for nll, loss, layer in (
        (other.sum(), other.sum(), frozen),
        (other.sum(), frozen.sum(), other),
        (other.sum(), nn.Parameter(torch.ones(1)).sum(), other),
    ):
        with pytest.raises(ValueError, match="has no part in the loss, or is frozen"):
            gradient_ratios(nll, [Pull(loss, layer, 1.0)])
    with pytest.raises(ValueError, match="needs the model's last layers"):
        weigh(other.sum(), [Balanced("gan", other.sum(), BalancedConfig(weight=1.0, largest=1.0), None)], 1.0)


@pytest.mark.parametrize("values", [{"weight": 0.0, "largest": 1.0}, {"weight": 1.0, "largest": float("nan")}])
def test_impossible_weights_are_refused(values):
    with pytest.raises(ValueError, match="finite and positive"):
        BalancedConfig(**values)
