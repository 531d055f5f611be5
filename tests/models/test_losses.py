"""The objective and its reductions."""

import pytest
import torch

from transvae.losses.kl import kl
from transvae.losses.objective import Objective, ObjectiveConfig
from transvae.losses.reconstruction import l1
from transvae.posterior import DiagonalGaussian


def _batch(size=16, f=4, d=5):
    x, y = torch.randn(2, 3, size, size), torch.randn(2, 3, size, size, requires_grad=True)
    mu, logvar = (torch.randn(2, d, size // f, size // f, requires_grad=True) for _ in range(2))
    return x, y, mu, logvar


def test_terms():
    x, y, mu, logvar = _batch()
    total, terms = Objective(ObjectiveConfig(kl=0.1, reduction="mean"))(x, y, mu, logvar)
    assert terms["l1"] == pytest.approx((x - y).abs().mean().item())
    assert terms["kl_sum"].item() == pytest.approx(
        DiagonalGaussian(torch.cat([mu, logvar], dim=1)).kl().mean().item(), rel=1e-5
    )
    assert terms["l1_sum"].item() == pytest.approx((x - y).abs().sum().item() / 2, rel=1e-5)
    assert total.item() == pytest.approx((terms["l1"] + 0.1 * terms["kl"]).item())
    assert terms["total"].item() == total.item()
    assert not any(term.requires_grad for term in terms.values())


def test_both_reductions_have_proportional_gradients():
    """sum_per_sample is LDM's loss divided by the number of pixel values."""
    x, y, mu, logvar = _batch()
    weight = 0.3
    total, _ = Objective(ObjectiveConfig(kl=weight))(x, y, mu, logvar)
    ours = torch.autograd.grad(total, (y, mu, logvar))
    ldm = (x - y).abs().sum() / 2 + weight * 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum() / 2
    for a, b in zip(ours, torch.autograd.grad(ldm, (y, mu, logvar)), strict=True):
        torch.testing.assert_close(a * x[0].numel(), b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("f", "d", "mean_weight"), [(16, 32, 4.17e-10), (8, 16, 8.33e-10)])
def test_the_paper_weight_under_the_mean_reduction(f, d, mean_weight):
    zeros = torch.zeros(1, 3, 256, 256)
    mu = torch.full((1, d, 256 // f, 256 // f), 2.0)
    total, terms = Objective()(zeros, zeros, mu, torch.zeros_like(mu))
    assert total.item() == pytest.approx(mean_weight * terms["kl"].item(), rel=2e-3)


def test_losses_are_fp32_and_zero_where_they_should():
    x = torch.randn(1, 3, 8, 8).bfloat16()
    assert l1(x, x).item() == 0
    assert l1(x, x).dtype == torch.float32
    assert kl(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)).item() == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"reduction": "sum"}, "choose one of sum_per_sample, mean"),
        ({"kl": -1.0}, "kl=-1.0"),
        ({"l1": float("nan")}, "l1=nan"),
    ],
)
def test_impossible_objectives_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        ObjectiveConfig(**values)


def test_images_and_reconstructions_must_match():
    x, _, mu, logvar = _batch()
    with pytest.raises(ValueError, match="reconstructions"):
        Objective()(x, x[:, :, :8], mu, logvar)
