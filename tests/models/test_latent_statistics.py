"""The numbers of the off-manifold comparison, on vectors whose answers are known."""

import math

import numpy as np
import pytest
import torch

from transvae import create_model
from transvae.latent_statistics import off_manifold, round_trip, spectrum, vectors


def test_spectrum_is_numpys():
    torch.manual_seed(0)
    values = torch.randn(500, 6) @ torch.randn(6, 6) + 3
    ours, array = spectrum(values), values.double().numpy()
    expected = np.sort(np.linalg.svd(array - array.mean(0), compute_uv=False) ** 2 / 499)[::-1]
    assert ours.variances.tolist() == pytest.approx(expected.tolist())
    assert ours.std.tolist() == pytest.approx(array.std(0, ddof=1).tolist())
    assert ours.mean.tolist() == pytest.approx(array.mean(0).tolist())
    shares = expected / expected.sum()
    assert ours.effective_rank == pytest.approx(math.exp(-sum(share * math.log(share) for share in shares)))
    assert ours.participation == pytest.approx(1 / sum(share**2 for share in shares))


def test_ranks_of_known_shapes():
    """Four equal directions out of ten, hidden by a rotation; and a line."""
    signs = torch.tensor([[(n >> k) % 2 * 2.0 - 1 for k in range(4)] for n in range(16)])
    rotation = torch.linalg.qr(torch.randn(10, 10)).Q
    four = spectrum(signs @ rotation[:4])
    assert (four.effective_rank, four.participation) == (pytest.approx(4), pytest.approx(4))
    assert (four.directions(), four.directions(0.5)) == (4, 2)
    line = spectrum(torch.arange(9.0)[:, None] * rotation[:1])
    assert (line.effective_rank, line.participation, line.directions()) == (pytest.approx(1), pytest.approx(1), 1)


def test_distance_from_the_manifold_is_counted_by_hand():
    """Pairs 0 1, 3 4, 6 7, 9 10 on a line: the second neighbour of an inner one lies at 2, of an outer one at 3."""
    reference = torch.stack([torch.tensor([0.0, 1, 3, 4, 6, 7, 9, 10]), torch.zeros(8)], dim=1)
    above = torch.tensor([[4.0, 3.0], [5.0, 0.5], [20.0, 0.0]])
    found = off_manifold(above, reference, neighbours=2)
    far = sorted([math.sqrt(9 + 1), math.sqrt(1.25), 11.0])
    assert found.ratio == pytest.approx(far[1] / 2)
    assert found.inside == pytest.approx(1 / 3)


def test_data_are_on_their_manifold_and_noise_is_not():
    torch.manual_seed(0)
    plane = torch.randn(2, 32)
    reference, same = torch.randn(2000, 2) @ plane, torch.randn(500, 2) @ plane
    like, unlike = off_manifold(same, reference), off_manifold(same + torch.randn(500, 32), reference)
    assert like.ratio == pytest.approx(1, abs=0.15)
    assert like.inside > 0.8
    assert unlike.ratio > 5
    assert unlike.inside < 0.1
    whole, parts = off_manifold(same[:3], reference), [off_manifold(row[None], reference).inside for row in same[:3]]
    assert whole.inside == pytest.approx(sum(parts) / 3)


def test_round_trips_keep_noise_or_take_it_away():
    latents, noise = torch.randn(4, 2, 8, 8), torch.randn(4, 2, 8, 8)
    std = torch.tensor([2.0, 0.5])
    kept = round_trip(lambda z: z, lambda z: z, latents, noise, 0.5, std)
    assert kept == pytest.approx(0.25 * float(noise.double().square().mean()), rel=1e-5)
    assert round_trip(lambda z: z, lambda z: latents, latents, noise, 0.5, std) == 0


def test_on_a_model():
    model = create_model("rae-micro-T/f4d32").eval()
    with torch.no_grad():
        latents = model.encode(torch.rand(8, 3, 32, 32) * 2 - 1)
    found = spectrum(vectors(latents))
    assert 1 < found.participation <= found.effective_rank <= 32
    error = round_trip(model.decode, model.encode, latents, torch.randn_like(latents), 0.1, found.std)
    assert math.isfinite(error)


def test_vectors_are_positions():
    latents = torch.arange(24.0).view(2, 3, 2, 2)
    every = vectors(latents)
    assert every.shape == (8, 3)
    assert every[5].tolist() == latents[1, :, 0, 1].tolist()
    some = vectors(latents, 3, torch.Generator().manual_seed(1))
    assert len({tuple(row) for row in some.tolist()} & {tuple(row) for row in every.tolist()}) == 3
    assert torch.equal(some, vectors(latents, 3, torch.Generator().manual_seed(1)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spectrum(torch.zeros(1, 4)), r"vectors have the shape \(N, C\) with N of at least 2, not \(1, 4\)"),
        (lambda: spectrum(torch.zeros(5, 4)), "the vectors are all the same"),
        (lambda: spectrum(torch.full((5, 4), math.nan)), "vectors hold numbers that are not finite"),
        (lambda: off_manifold(torch.zeros(2, 4), torch.zeros(3, 4)), "references .* with N of at least 4"),
        (lambda: off_manifold(torch.zeros(2, 4), torch.zeros(9, 5)), "vectors of 4 channels beside references of 5"),
    ],
)
def test_impossible_questions_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
