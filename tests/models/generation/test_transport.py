"""The objective against its formula in float64, and the losses that the reference starts with."""

import math

import pytest
import torch

from transvae.generation import create_dit
from transvae.generation.transport import interpolate, logit_normal_times, velocity_loss


def test_paths_lead_from_noise_to_data():
    data, noise = torch.randn(2, 3, 4, 4, dtype=torch.float64), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    at, velocity = interpolate(data, noise, torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(at[0], noise[0])
    torch.testing.assert_close(at[1], data[1])
    t = torch.tensor([0.3, 0.3], dtype=torch.float64)
    middle, _ = interpolate(data, noise, t)
    torch.testing.assert_close(middle, 0.3 * data + 0.7 * noise)
    torch.testing.assert_close(middle + 0.7 * velocity, data)


def test_loss_is_its_formula():
    predicted, velocity = (torch.randn(2, 3, 2, 2, dtype=torch.float64) for _ in range(2))
    squares, cosines = [], []
    for b in range(2):
        for i in range(2):
            for j in range(2):
                v, u = predicted[b, :, i, j].tolist(), velocity[b, :, i, j].tolist()
                squares += [(x - y) ** 2 for x, y in zip(v, u, strict=True)]
                dot = sum(x * y for x, y in zip(v, u, strict=True))
                cosines.append(1 - dot / math.hypot(*v) / math.hypot(*u))
    loss = velocity_loss(predicted, velocity)
    assert float(loss.mse) == pytest.approx(sum(squares) / len(squares), rel=1e-6)
    assert float(loss.cosine) == pytest.approx(sum(cosines) / len(cosines), rel=1e-6)
    assert float(loss.total) == pytest.approx(float(loss.mse + loss.cosine))


def test_first_loss_is_three():
    """LightningDiT's zero-initialised network on latents of unit variance: 2 + 1."""
    torch.manual_seed(0)
    model = create_dit("lightning_dit-micro-S/1", 4, 8, classes=10)
    data, noise = torch.randn(64, 4, 8, 8), torch.randn(64, 4, 8, 8)
    t = logit_normal_times(torch.randn(64))
    at, velocity = interpolate(data, noise, t)
    loss = velocity_loss(model(at, t, torch.zeros(64, dtype=torch.long)), velocity)
    assert float(loss.mse) == pytest.approx(2.0, abs=0.05)
    assert float(loss.cosine) == 1.0


def test_times_are_logit_normal():
    """P(t < 0.5) = 0.5, P(t < sigmoid(1)) = P(normal < 1) = 0.8413."""
    torch.manual_seed(0)
    t = logit_normal_times(torch.randn(100_000))
    assert float((t < 0.5).float().mean()) == pytest.approx(0.5, abs=0.01)
    assert float((t < 1 / (1 + math.exp(-1))).float().mean()) == pytest.approx(0.8413, abs=0.01)
