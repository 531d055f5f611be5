"""The discriminator and its losses: taming-transformers' PatchGAN under the hinge loss."""

import pytest
import torch
from torch import nn

from transvae.losses.adversarial import PatchDiscriminator, generator_loss, hinge_loss
from transvae.losses.sizes import logits_side


def test_the_published_discriminator():
    with torch.device("meta"):
        model = PatchDiscriminator()
        logits = model(torch.empty(2, 3, 256, 256))
    assert sum(p.numel() for p in model.parameters()) == 2_765_633
    assert logits.shape == (2, 1, 30, 30)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.stride[0], c.bias is not None) for c in convolutions] == [
        (3, 64, 2, True), (64, 128, 2, False), (128, 256, 2, False), (256, 512, 1, False), (512, 1, 1, True),
    ]  # fmt: skip
    assert {(c.kernel_size, c.padding) for c in convolutions} == {((4, 4), (1, 1))}


def test_its_first_weights():
    model = PatchDiscriminator()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert abs(module.weight.mean().item()) < 0.001
        elif isinstance(module, nn.BatchNorm2d):
            assert module.weight.mean().item() == pytest.approx(1.0, abs=0.01)
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.25)
            assert not module.bias.any()
    torch.manual_seed(0)
    again = PatchDiscriminator()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_it_keeps_no_statistics():
    """No buffer that could differ between workers, or between a resumed and an uninterrupted run."""
    model = PatchDiscriminator()
    assert not list(model.buffers())
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(model.train()(x), model.eval()(x))


def test_the_losses():
    real, fake = (torch.randn(3, 1, 4, 5).bfloat16() for _ in range(2))
    r, f = real.double(), fake.double()
    hinge = 0.5 * (sum(max(0, 1 - v) for v in r.flatten()) + sum(max(0, 1 + v) for v in f.flatten())) / r.numel()
    assert hinge_loss(real, fake).item() == pytest.approx(hinge.item(), rel=1e-5)
    assert generator_loss(fake).item() == pytest.approx(-f.sum().item() / f.numel(), rel=1e-5)
    assert hinge_loss(torch.ones(1), -torch.ones(1)) == 0
    assert hinge_loss(real, fake).dtype == generator_loss(fake).dtype == torch.float32


@pytest.mark.parametrize(("side", "layers", "left"), [(256, 3, 30), (32, 3, 2), (32, 2, 6), (24, 3, 1), (6, 1, 1)])
def test_logits_of_small_images(side, layers, left):
    assert logits_side(side, layers) == left
    assert PatchDiscriminator(layers, width=4)(torch.zeros(2, 3, side, side)).shape == (2, 1, left, left)


@pytest.mark.parametrize(("side", "layers", "most"), [(23, 3, 2), (16, 3, 2), (11, 2, 1), (32, 4, 3)])
def test_images_that_leave_no_logits_are_refused(side, layers, most):
    with pytest.raises(ValueError, match=rf"{side} pixels .* at most {most} layers"):
        PatchDiscriminator(layers, width=4)(torch.zeros(1, 3, 64, side))
    assert logits_side(side, most) >= 1


@pytest.mark.parametrize("values", [{"layers": 0}, {"width": 0}])
def test_impossible_discriminators_are_refused(values):
    with pytest.raises(ValueError, match="cannot be built"):
        PatchDiscriminator(**values)
