"""The off-manifold comparison of stored latents: few directions make noise lead away."""

import numpy as np
import pytest
import torch

from transvae_platform.errors import UserError
from transvae_platform.evaluation.latent_space import manifold
from transvae_platform.evaluation.latent_space.manifold import measure_manifold


def test_directions_are_counted_and_noise_leads_off_a_thin_set(latents):
    train, held_out = latents(count=400, noise=1.0)
    found = measure_manifold(train, held_out, images=400)
    assert (found.n, found.references, found.channels) == (400, 400, 3)
    assert 2.9 < found.effective_rank <= 3.0
    assert found.ratio["0"] == pytest.approx(1.0, abs=0.3)
    assert list(found.ratio) == ["0", "0.25", "0.5", "1"]
    assert found.ratio["1"] > found.ratio["0"]
    assert found.inside["1"] < found.inside["0"]


def test_a_thin_set_is_left_sooner(monkeypatch):
    def vectors(directions):
        def draw(seed, count=400, channels=24):
            random = np.random.default_rng(seed)
            values = random.standard_normal((count, directions)) @ mix(directions, channels)
            return (values / mix(directions, channels).std(0)).astype(np.float32)

        return draw

    def mix(directions, channels):
        return np.random.default_rng(9).standard_normal((directions, channels))

    def of(directions):
        monkeypatch.setattr(manifold, "random_vectors", lambda part, count, seed: vectors(directions)(part))
        return measure_manifold(1, 2, noise=(0.5,))

    thin, thick = of(2), of(24)
    assert thin.effective_rank < 3 < thick.effective_rank
    assert thin.directions == 2
    assert thin.ratio["0.5"] / thin.ratio["0"] > 1.3 * thick.ratio["0.5"] / thick.ratio["0"]
    assert thin.inside["0.5"] < thick.inside["0.5"]


def test_the_same_latents_give_the_same_numbers_and_none_are_refused(latents, monkeypatch):
    train, held_out = latents(count=60)
    assert measure_manifold(train, held_out) == measure_manifold(train, held_out)
    monkeypatch.setattr(manifold, "random_vectors", lambda *_: torch.ones(50, 3).numpy())
    with pytest.raises(UserError, match="manifold: the vectors are all the same"):
        measure_manifold(train, held_out)
