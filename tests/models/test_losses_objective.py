"""All terms together: reductions, adaptive weights, the two stages, and what is on record."""

import pytest
import torch
from torch import nn

from transvae import create_model
from transvae.losses.adversarial import AdversarialConfig, PatchDiscriminator
from transvae.losses.alignment import AlignmentConfig, Projection
from transvae.losses.frozen import Frozen, Origin
from transvae.losses.objective import Objective, ObjectiveConfig
from transvae.sizes import FAMILIES

N = 3 * 256 * 256
SHAPES = {"f16d32": (32, 16), "f8d16": (16, 32)}  # latent channels, side of the map at 256 pixels
VF = AlignmentConfig(distance_margin=0.0, cosine_margin=0.0)


class _Squares(Frozen):
    """A stand-in for LPIPS that anyone can compute: the mean square per image."""

    def __init__(self, weights="pretrained"):
        super().__init__(Origin("squares", weights))

    def forward(self, x, y):
        return (x - y).square().mean(dim=(1, 2, 3))


def _summed(x, y, mu, logvar, scale):
    """LDM: sums per image, mean over the batch; VA-VAE broadcasts LPIPS onto every value."""
    perceptual = (x - y).square().mean(dim=(1, 2, 3), keepdim=True)
    nll = ((x - y).abs() + perceptual).sum() / len(x)
    return nll + scale * 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum() / len(x)


def _mean(x, y, mu, logvar, scale):
    """TiTok, DeTok, REPA-E: means over pixels, but the KL is summed over the latent."""
    divergence = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum() / len(x)
    return (x - y).abs().mean() + (x - y).square().mean() + scale * divergence


def _pp_style(x, y, mu, logvar, scale):
    """VA-VAE's unused branch: means everywhere, the KL without its half."""
    divergence = (mu.square() + logvar.exp() - 1 - logvar).mean()
    return (x - y).abs().mean() + (x - y).square().mean() + scale * divergence


@pytest.mark.parametrize("latent", SHAPES)
@pytest.mark.parametrize(
    ("family", "scale", "equal", "factor"),
    [
        (_summed, 1e-6, {"f16d32": 4.17e-8, "f8d16": 8.33e-8}, N),  # LDM, VA-VAE
        (_summed, 1e-8, {"f16d32": 4.17e-10, "f8d16": 8.33e-10}, N),  # the same with TransVAE's weight
        (_mean, 1e-6, {"f16d32": 8.2e-3, "f8d16": 1.6e-2}, 1),  # TiTok, DeTok, REPA-E
        (_mean, 1e-8, {"f16d32": 8.2e-5, "f8d16": 1.6e-4}, 1),
        (_pp_style, 1e-6, {"f16d32": 2e-6, "f8d16": 2e-6}, 1),
        (_pp_style, 0.0, {"f16d32": 0.0, "f8d16": 0.0}, 1),  # taming's VQGAN has no KL
    ],
)
def test_every_convention_of_the_peers_is_a_weight_of_ours(latent, family, scale, equal, factor):
    """Section 4 of the training recipes: the published loss in float64 against ours, gradients up to one factor."""
    channels, side = SHAPES[latent]
    values = channels * side**2
    exact = {_summed: scale * values / N, _mean: scale * values, _pp_style: 2 * scale}[family]
    assert exact == pytest.approx(equal[latent], rel=0.03)
    x, y = (torch.rand(2, 3, 256, 256) * 2 - 1 for _ in range(2))
    inputs = [t.requires_grad_(True) for t in (y, *(torch.randn(2, channels, side, side) for _ in range(2)))]
    theirs = torch.autograd.grad(family(x.double(), *(t.double() for t in inputs), scale), inputs, allow_unused=True)
    configs = [ObjectiveConfig(lpips=1.0, kl=exact, reduction="mean")]
    if family is _summed:
        configs.append(ObjectiveConfig(lpips=1.0, kl=scale))
    for config in configs:
        ours = torch.autograd.grad(Objective(config, _Squares())(x, *inputs)[0], inputs)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(factor * a, b, rtol=1e-4, atol=1e-5 * b.abs().max().item())


@pytest.mark.parametrize("reduction", ["sum_per_sample", "mean"])
@pytest.mark.parametrize("weight", [1e-8, 0.37, 1.7])
def test_without_further_losses_the_result_is_what_it_always_was(weight, reduction):
    """The first form of this objective, bit for bit: tables of measured trials rest on it."""
    config = ObjectiveConfig(l1=0.9, kl=weight, reduction=reduction)
    x, y, mu, logvar = _random_batch()
    pixel = (x - y).abs().mean()
    divergence = 0.5 * (mu.square() + logvar.exp() - 1.0 - logvar).mean()
    scale = mu[0].numel() / x[0].numel() if reduction == "sum_per_sample" else 1.0
    before = config.l1 * pixel + config.kl * scale * divergence
    total, terms = Objective(config)(x, y, mu, logvar)
    assert torch.equal(total, before)
    assert set(terms) == {"l1", "kl", "l1_sum", "kl_sum", "kl_weight", "kl_weight_sum", "total"}
    inputs = (y, mu, logvar)
    ours, theirs = torch.autograd.grad(total, inputs), torch.autograd.grad(before, inputs)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def _random_batch(size=32):
    x, y = torch.rand(2, 3, size, size) * 2 - 1, torch.randn(2, 3, size, size, requires_grad=True)
    mu, logvar = (torch.randn(2, 8, size // 8, size // 8, requires_grad=True) for _ in range(2))
    return x, y, mu, logvar


class _Step:
    """One step of a small model with everything that the objective may be given."""

    def __init__(self, family="transvae", channels=6):
        self.model = create_model(f"{family}-micro-T/f8d8", posterior_init="standard").train()
        self.projection, self.discriminator = Projection(8, channels), PatchDiscriminator(2, width=8)
        self.x = torch.rand(2, 3, 32, 32) * 2 - 1
        self.reconstruction, self.mu, self.logvar = self.model(self.x, noise=torch.zeros(2, 8, 4, 4))
        self.features = torch.randn(2, channels, 4, 4)
        self.layers = (self.model.last_encoder_layer, self.model.last_decoder_layer)

    def generator(self, config, lpips=None, vision=None, **changes):
        values = {
            "projected": self.projection(self.mu), "features": self.features, "discriminator": self.discriminator,
            "layers": self.layers, **changes,
        }  # fmt: skip
        networks = (lpips or _Squares(), vision or _Squares())
        return Objective(config, *networks).generator(self.x, self.reconstruction, self.mu, self.logvar, **values)


ALL = ObjectiveConfig(lpips=1.0, kl=1e-3, vf=VF, gan=AdversarialConfig())


@pytest.mark.parametrize("reduction", ["sum_per_sample", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_total_is_va_vaes(family, reduction):
    """VA-VAE's generator loss, term by term with autograd's own gradients, divided by N under sums."""
    step, n = _Step(family), 3 * 32 * 32
    total, judged, terms = step.generator(
        ObjectiveConfig(lpips=1.0, kl=1e-3, vf=VF, gan=AdversarialConfig(), reduction=reduction)
    )
    unit = n if reduction == "sum_per_sample" else 1
    x, y = step.x, step.reconstruction
    nll = unit * ((x - y).abs().mean() + (x - y).square().mean())
    divergence = 0.5 * (step.mu.square() + step.logvar.exp() - 1 - step.logvar).mean()
    divergence = divergence * (8 * 4 * 4 if unit == n else 1)
    adversarial = -step.discriminator(y).mean()
    z, f = (nn.functional.normalize(t.flatten(2), dim=1) for t in (step.projection(step.mu), step.features))
    distance = (torch.einsum("bci,bcj->bij", z, z) - torch.einsum("bci,bcj->bij", f, f)).abs().mean()
    cosine = (1 - nn.functional.cosine_similarity(z, f)).mean()

    def ratio(term, layer):
        norms = [torch.autograd.grad(loss, layer, retain_graph=True)[0].norm() for loss in (nll, term)]
        return norms[0] / (norms[1] + 1e-4)

    vf_weight = 0.1 * ratio(distance + cosine, step.layers[0]).clamp(0, 1e8)
    gan_weight = 0.1 * ratio(adversarial, step.layers[1]).clamp(0, 1e4)
    expected_judged = nll + 1e-3 * divergence + vf_weight * (distance + cosine)
    expected = expected_judged + gan_weight * adversarial
    assert judged.item() * unit == pytest.approx(expected_judged.item(), rel=1e-4)
    assert total.item() * unit == pytest.approx(expected.item(), rel=1e-4)
    assert terms["vf_distance"].item() == pytest.approx(distance.item(), rel=1e-4)
    assert terms["vf_cosine"].item() == pytest.approx(cosine.item(), rel=1e-4)
    assert terms["vf"].item() == pytest.approx((distance + cosine).item(), rel=1e-4)
    assert terms["gan"].item() == pytest.approx(adversarial.item(), rel=1e-4)
    assert terms["vf_weight"].item() * unit == pytest.approx(vf_weight.item(), rel=1e-4)
    assert terms["gan_weight"].item() * unit == pytest.approx(gan_weight.item(), rel=1e-4)
    assert not any(term.requires_grad for term in (judged, *terms.values()))


def test_every_weight_and_term_is_on_record_in_both_conventions():
    _, _, terms = _Step().generator(ALL)
    assert set(terms) == {
        "l1", "l1_sum", "lpips", "lpips_sum", "kl", "kl_sum", "kl_weight", "kl_weight_sum", "vf", "vf_distance",
        "vf_cosine", "vf_weight", "vf_weight_sum", "vf_clamped", "gan", "gan_weight", "gan_weight_sum", "gan_clamped",
        "total",
    }  # fmt: skip
    for name, values in (("l1", 3072), ("lpips", 3072), ("kl", 128), ("gan_weight", 3072), ("vf_weight", 3072)):
        assert terms[f"{name}_sum"].item() == pytest.approx(values * terms[name].item(), rel=1e-6)


@pytest.mark.parametrize("reduction", ["sum_per_sample", "mean"])
def test_the_weight_of_kl_is_what_it_is_multiplied_with_in_both_conventions(reduction):
    step = _Step()
    objective = ObjectiveConfig(kl=0.5, lpips=0.0, reduction=reduction)
    total, _, terms = step.generator(objective, discriminator=None)
    share = (total - terms["l1"]).item()
    assert share == pytest.approx((terms["kl_weight"] * terms["kl"]).item(), rel=1e-3)
    # LDM's total is 3072 times the mean over pixel values
    assert share * 3072 == pytest.approx((terms["kl_weight_sum"] * terms["kl_sum"]).item(), rel=1e-3)
    assert terms["kl_weight" if reduction == "mean" else "kl_weight_sum"].item() == pytest.approx(0.5, rel=1e-6)


def test_terms_of_random_networks_are_called_so():
    _, _, terms = _Step().generator(ALL, _Squares("random"), _Squares("random"))
    names = {name for name in terms if name.startswith(("lpips", "vf"))}
    assert names == {f"lpips_random{end}" for end in ("", "_sum")} | {
        f"vf_random{end}" for end in ("", "_distance", "_cosine", "_weight", "_weight_sum", "_clamped")
    }


@pytest.mark.parametrize("largest", [1e8, 10.0])
def test_adaptive_weights_are_the_same_in_both_conventions(largest):
    """Once the bound is divided by N: whether it binds (10 for sums of 3,072 values) or not."""
    torch.manual_seed(2)
    step, n = _Step(), 3 * 32 * 32
    summed = ObjectiveConfig(lpips=1.0, kl=0.0, vf=VF, gan=AdversarialConfig(largest=largest))
    mean = ObjectiveConfig(lpips=1.0, kl=0.0, vf=VF, gan=AdversarialConfig(largest=largest / n), reduction="mean")
    (total, _, terms), (other_total, _, other_terms) = step.generator(summed), step.generator(mean)
    assert terms["gan_clamped"].item() == (largest == 10.0)
    assert terms["gan_weight"].item() == pytest.approx(other_terms["gan_weight"].item(), rel=1e-6)
    assert terms["vf_weight"].item() == pytest.approx(other_terms["vf_weight"].item(), rel=1e-6)
    for layer in step.layers:
        a, b = (torch.autograd.grad(t, layer, retain_graph=True)[0] for t in (total, other_total))
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("weight", "bound"), [(0.5, 0.025), (0.1, 0.005)])
def test_where_the_bound_of_va_vae_binds_at_256_pixels(weight, bound):
    """1e4 for sums is 0.051 for means: the largest adversarial weight there is (recipes, section 4)."""
    image = nn.Conv2d(3, 3, 1)
    x = torch.rand(1, 3, 256, 256) * 2 - 1
    objective = Objective(ObjectiveConfig(gan=AdversarialConfig(weight=weight)))
    zeros = torch.zeros(1, 32, 16, 16)
    faint = nn.Sequential(nn.Conv2d(3, 1, 1), nn.Conv2d(1, 1, 1))
    nn.init.constant_(faint[1].weight, 1e-3)
    _, _, terms = objective.generator(
        x, image(x), zeros, zeros, discriminator=faint, layers=(image.weight, image.weight)
    )
    assert terms["gan_clamped"].item() == 1
    assert terms["gan_weight"].item() == pytest.approx(weight * 1e4 / N, rel=1e-6)
    assert terms["gan_weight"].item() == pytest.approx(bound, rel=0.03)
    assert terms["gan_weight_sum"].item() == pytest.approx(weight * 1e4, rel=1e-6)


def test_fixed_weights_need_no_layers():
    config = ObjectiveConfig(
        vf=AlignmentConfig(weight=3.0, adaptive=False), gan=AdversarialConfig(weight=2.0, adaptive=False)
    )
    total, judged, terms = _Step().generator(config, layers=None)
    assert terms["gan_weight"].item() == pytest.approx(2 / 3072)
    assert terms["vf_weight_sum"].item() == pytest.approx(3)
    assert (total - judged).item() == pytest.approx(2 / 3072 * terms["gan"].item(), abs=1e-6)
    assert "gan_clamped" not in terms


def test_the_alignment_reaches_encoder_and_projection():
    step = _Step()
    step.generator(ObjectiveConfig(l1=0.0, kl=0.0, vf=AlignmentConfig(adaptive=False)), discriminator=None)[
        0
    ].backward()
    assert step.projection.weight.grad.abs().sum() > 0
    assert step.model.last_encoder_layer.grad.abs().sum() > 0
    assert step.model.last_decoder_layer.grad.abs().sum() == 0


def test_the_generator_leaves_the_discriminator_alone():
    step = _Step()
    before = {name: value.clone() for name, value in step.discriminator.state_dict().items()}
    total, _, _ = step.generator(ALL)
    total.backward()
    assert all(p.grad is None and p.requires_grad for p in step.discriminator.parameters())
    assert all(torch.equal(before[name], value) for name, value in step.discriminator.state_dict().items())
    assert step.model.last_decoder_layer.grad.abs().sum() > 0


def test_before_the_start_no_adversarial_work_is_done(monkeypatch):
    step = _Step()
    monkeypatch.setattr(step.discriminator, "forward", lambda x: pytest.fail("the discriminator was asked"))
    total, judged, terms = step.generator(ALL, discriminator=None)
    assert torch.equal(total, judged)
    assert not any(name.startswith("gan") for name in terms)


def test_the_discriminators_loss_moves_only_the_discriminator():
    step = _Step()
    loss, terms = Objective(ALL, _Squares(), _Squares()).discriminator(step.discriminator, step.x, step.reconstruction)
    real, fake = step.discriminator(step.x), step.discriminator(step.reconstruction)
    expected = 0.5 * ((1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert terms["logits_real"].item() == pytest.approx(real.mean().item(), abs=1e-6)
    assert terms["logits_fake"].item() == pytest.approx(fake.mean().item(), abs=1e-6)
    assert terms["gan_discriminator"].item() == loss.item()
    loss.backward()
    assert all(p.grad is not None for p in step.discriminator.parameters())
    assert all(p.grad is None for p in step.model.parameters())


def test_with_a_frozen_encoder_kl_and_alignment_are_only_on_record():
    config = ObjectiveConfig(lpips=1.0, kl=1.0, vf=VF, gan=AdversarialConfig(), encoder_frozen=True)
    step = _Step()
    step.model.encoder.requires_grad_(False)
    step.reconstruction, step.mu, step.logvar = step.model(step.x, noise=torch.zeros(2, 8, 4, 4))
    total, judged, terms = step.generator(config)
    total.backward()
    assert judged.item() == pytest.approx((terms["l1"] + terms["lpips"]).item(), rel=1e-6)
    assert terms["kl"] > 0
    assert terms["vf"] > 0
    assert "vf_weight" not in terms
    assert "gan_weight" in terms
    assert all(p.grad is None for p in (*step.model.encoder.parameters(), *step.projection.parameters()))
    assert step.model.last_decoder_layer.grad.abs().sum() > 0
    assert "vf" not in step.generator(config, projected=None, features=None, discriminator=None)[2]


def test_workers_are_asked_once_a_step():
    told = []
    _Step().generator(ALL, mean_over_workers=lambda flat: told.append(flat.shape) or flat)
    step = _Step()
    encoder, decoder = (layer.numel() for layer in step.layers)
    assert told == [(2 * encoder + 2 * decoder,)]
    step.generator(
        ObjectiveConfig(), mean_over_workers=lambda flat: pytest.fail("nothing to average"), discriminator=None
    )


def test_missing_parts_are_refused():
    step = _Step()
    with pytest.raises(ValueError, match="weight for lpips and needs the network"):
        Objective(ObjectiveConfig(lpips=1.0))
    with pytest.raises(ValueError, match="weight for vf and needs the network"):
        Objective(ObjectiveConfig(vf=VF))
    with pytest.raises(ValueError, match="needs projected latents and features"):
        step.generator(ALL, features=None)
    with pytest.raises(ValueError, match="no weight for gan"):
        step.generator(ObjectiveConfig())
    with pytest.raises(ValueError, match="gan is adaptive and needs the model's last layers"):
        step.generator(ObjectiveConfig(gan=AdversarialConfig()), layers=None)
    with pytest.raises(ValueError, match="lpips=-1"):
        ObjectiveConfig(lpips=-1.0)
