"""The objective of S-VAE and PS-VAE against its formulas, written out in float64."""

import math

import pytest
import torch

from transvae.losses.frozen import Frozen, FrozenConfig, Origin
from transvae.losses.perceptual import LPIPS
from transvae.losses.semantic import SemanticConfig, SemanticObjective, agreement

B, C, D, H = 2, 5, 3, 4


class Twin(Frozen):
    """A frozen network of which only the origin is asked."""

    def __init__(self, weights="pretrained"):
        super().__init__(Origin("twin", weights))


@pytest.fixture
def drawn():
    features, target = torch.randn(B, C, H, H), torch.randn(B, C, H, H)
    mu, logvar = torch.randn(B, D, H, H), torch.randn(B, D, H, H)
    return features, target, mu, logvar


def by_hand(features, target, mu, logvar):
    """(MSE, cosine, KL summed over all values of all samples), in Python's floats."""
    squares, cosines, divergence = [], [], 0.0
    for b in range(B):
        for i in range(H):
            for j in range(H):
                f, t = features[b, :, i, j].double().tolist(), target[b, :, i, j].double().tolist()
                squares += [(x - y) ** 2 for x, y in zip(f, t, strict=True)]
                cosines.append(sum(x * y for x, y in zip(f, t, strict=True)) / math.hypot(*f) / math.hypot(*t))
                for m, v in zip(mu[b, :, i, j].double().tolist(), logvar[b, :, i, j].double().tolist(), strict=True):
                    divergence += 0.5 * (m * m + math.exp(v) - 1 - v)
    return sum(squares) / len(squares), sum(cosines) / len(cosines), divergence


@pytest.mark.parametrize(
    ("reduction", "per"), [("mean", B * D * H * H), ("sum_channels", B * H * H), ("sum_per_sample", B)]
)
def test_kl_and_semantics_under_each_reduction(drawn, reduction, per):
    mse, _, divergence = by_hand(*drawn)
    config = SemanticConfig(lpips=0.0, kl=0.3, kl_reduction=reduction)
    total, terms = SemanticObjective(config, Twin())(*drawn)
    assert float(total) == pytest.approx(mse + 0.3 * divergence / per, rel=1e-5)
    assert float(terms["kl"]) == pytest.approx(divergence / (B * D * H * H), rel=1e-5), "logged in one way"
    assert float(terms["kl_sum"]) == pytest.approx(divergence / B, rel=1e-5)
    values = {"mean": 1, "sum_channels": C, "sum_per_sample": C * H * H}[reduction]
    total, terms = SemanticObjective(SemanticConfig(lpips=0.0, kl=0.0, semantic_reduction=reduction), Twin())(*drawn)
    assert float(total) == pytest.approx(mse * values, rel=1e-5)
    assert float(terms["semantic"]) == pytest.approx(mse, rel=1e-5)


def test_cosine_has_its_own_weight(drawn):
    mse, cosine, _ = by_hand(*drawn)
    config = SemanticConfig(lpips=0.0, kl=0.0, semantic=2.0, cosine=0.5)
    total, terms = SemanticObjective(config, Twin())(*drawn)
    assert float(total) == pytest.approx(2 * mse + 0.5 * (1 - cosine), rel=1e-5)
    assert float(terms["cosine"]) == pytest.approx(cosine, abs=1e-6)


def test_pixels_join_with_the_guides_weights(drawn):
    x, y = torch.rand(B, 3, 32, 32) * 2 - 1, torch.rand(B, 3, 32, 32) * 2 - 1
    lpips = LPIPS(FrozenConfig(weights="random", seed=1))
    total, terms = SemanticObjective(SemanticConfig(), Twin("random"), lpips)(*drawn, pixels=(x, y))
    mse, _, divergence = by_hand(*drawn)
    error = (x.double() - y.double()).flatten()
    pixels = 0.5 * float(error.abs().mean()) + 0.5 * float(error.square().mean()) + 0.1 * float(lpips(x, y).mean())
    assert float(total) == pytest.approx(mse + pixels + 1e-4 * divergence / (B * D * H * H), rel=1e-5)
    assert set(terms) == {
        "semantic_random", "cosine_random", "kl", "kl_sum", "l1", "mse", "lpips_random", "total"
    }  # fmt: skip
    assert not any(value.requires_grad for value in terms.values())


def test_equal_features_agree_and_no_latent_costs_nothing():
    features, nothing = torch.randn(B, C, H, H), torch.zeros(B, D, H, H)
    total, terms = SemanticObjective(SemanticConfig(lpips=0.0), Twin())(features, features, nothing, nothing)
    assert (float(total), float(terms["semantic"])) == (0, 0)
    assert float(terms["cosine"]) == pytest.approx(1)


def test_nothing_flows_into_the_target(drawn):
    features, target, mu, logvar = (value.requires_grad_() for value in drawn)
    SemanticObjective(SemanticConfig(lpips=0.0), Twin())(features, target, mu, logvar)[0].backward()
    assert target.grad is None
    assert all(value.grad.any() for value in (features, mu, logvar))


def test_it_is_fp32_under_autocast(drawn):
    halves = [value.bfloat16() for value in drawn]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        squares, cosine = agreement(*halves[:2])
    assert squares.dtype == cosine.dtype == torch.float32


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"kl_reduction": "sum"},
            "kl_reduction='sum' does not exist; choose one of mean, sum_channels, sum_per_sample",
        ),
        ({"semantic_reduction": "none"}, "semantic_reduction='none' does not exist"),
        ({"kl": -1.0}, r"the weight kl=-1.0 must be finite and not negative"),
        ({"semantic": math.nan}, "the weight semantic=nan"),
    ],
)
def test_impossible_values_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        SemanticConfig(**values)


def test_missing_networks_and_other_shapes_are_refused(drawn):
    features, target, mu, logvar = drawn
    with pytest.raises(ValueError, match="a weight for lpips and needs the network"):
        SemanticObjective(SemanticConfig(), Twin())
    objective = SemanticObjective(SemanticConfig(lpips=0.0), Twin())
    with pytest.raises(ValueError, match=r"features .2, 5, 4, 4. but targets .2, 4, 4, 4."):
        objective(features, target[:, :4], mu, logvar)
    x = torch.zeros(B, 3, 8, 8)
    with pytest.raises(ValueError, match=r"images .2, 3, 8, 8. but reconstructions .2, 3, 8, 4."):
        objective(features, target, mu, logvar, (x, x[..., :4]))
