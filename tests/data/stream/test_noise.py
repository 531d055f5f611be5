"""Latent noise: normal, and a function of (seed, sample, step) alone."""

import math

import numpy as np
import torch

from transvae_platform.data.stream.hashing import Purpose, keys
from transvae_platform.data.stream.noise import normal_noise

SHAPE = (8, 4, 6)


def latent_noise(samples, shape, seed, step):
    """As the training draws it."""
    return normal_noise(
        torch.from_numpy(keys(Purpose.NOISE, seed, samples.numpy(), np.full(len(samples), step))), shape
    )


def ids(*numbers):
    return torch.tensor(numbers, dtype=torch.int64)


def test_noise_belongs_to_its_sample_wherever_it_stands():
    whole = latent_noise(torch.arange(8), SHAPE, 0, 5)
    assert whole.shape == (8, *SHAPE)
    assert whole.dtype == torch.float32
    assert torch.equal(latent_noise(ids(6, 2), SHAPE, 0, 5), whole[[6, 2]])


def test_every_seed_sample_and_step_has_noise_of_its_own():
    drawn = [
        latent_noise(ids(sample), SHAPE, seed, step) for seed in range(4) for sample in range(4) for step in range(4)
    ]
    flat = torch.stack(drawn).flatten(1)
    correlation = torch.corrcoef(flat) - torch.eye(len(flat))
    assert correlation.abs().max() < 6 / math.sqrt(flat.shape[1])  # six standard deviations, of 2016 pairs


def test_noise_is_standard_normal():
    values = latent_noise(torch.arange(100), (10, 33, 33), 1, 2).flatten()  # an odd number per sample
    assert len(values) == 1_089_000
    assert torch.isfinite(values).all()
    assert abs(values.mean()) < 5 / math.sqrt(len(values))
    for power, moment in ((2, 1.0), (3, 0.0), (4, 3.0)):
        spread = math.sqrt({2: 2, 3: 15, 4: 96}[power] / len(values))  # of the sample's moment
        assert abs((values.double() ** power).mean() - moment) < 5 * spread
    for bound in (0.5, 1.0, 2.0, 3.0):
        expected = math.erf(bound / math.sqrt(2))
        assert abs((values.abs() < bound).double().mean() - expected) < 5 * math.sqrt(0.25 / len(values))
