"""Density measures: golden numbers on fixed points, the settings of the map, what is sampled."""

import numpy as np
import pytest

from transvae_platform.errors import UserError
from transvae_platform.evaluation.latent_space import density
from transvae_platform.evaluation.latent_space.density import Density, floors, measure_density, of_points, overlap
from transvae_platform.evaluation.latent_space.vectors import random_vectors


def grid():
    side = (np.arange(32) + 0.5) / 32
    return np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)


@pytest.mark.parametrize(
    ("points", "expected"),
    [(np.random.default_rng(0).normal(size=(1000, 2)), (0.5287401174592994, 0.9765798876460392, 0.30497249253616043)),
     (np.random.default_rng(0).uniform(size=(1000, 2)), (0.22289008302129515, 0.996187851961665, 0.12631864941679016)),
     (grid(), (0.19131499664890478, 0.9971165778365897, 0.10019106689655702))],
    ids=["normal", "uniform", "grid"],
)  # fmt: skip
def test_golden_numbers_of_fixed_points(points, expected):
    assert tuple(of_points(points).values()) == pytest.approx(expected, abs=1e-9)


def test_vectors_are_single_positions_of_normalised_latents(latents):
    train, _ = latents()
    vectors = random_vectors(train, 200, seed=1)
    assert vectors.shape == (200, 3)
    everything = train.read(np.arange(300)).numpy()
    assert abs(everything.mean()) < 1e-5
    assert everything.std() == pytest.approx(1, abs=1e-3)
    flat = everything.transpose(0, 2, 3, 1).reshape(-1, 3)
    assert all((np.abs(flat - vector).max(1) < 1e-6).any() for vector in vectors)
    # every position and many images, not the first ones
    owners = [int(np.abs(flat - vector).max(1).argmin()) for vector in vectors]
    assert len({owner // 4 for owner in owners}) == 200
    assert {owner % 4 for owner in owners} == {0, 1, 2, 3}
    assert np.array_equal(random_vectors(train, 200, seed=1), vectors)
    assert not np.array_equal(random_vectors(train, 200, seed=2), vectors)


def test_runs_are_averaged_and_their_spread_and_floor_stand_beside(latents, monkeypatch):
    seeds = []
    monkeypatch.setattr(density, "tsne", lambda vectors, seed: seeds.append(seed) or vectors[:, :2].astype(float))
    train, held_out = latents()
    shown = []
    found = measure_density(train, images=150, runs=3, show=shown.append)
    assert [points.tolist() for points in shown] == [random_vectors(train, 150, 42)[:, :2].astype(float).tolist()]
    assert found.settings["split"] == "train"
    values = [of_points(random_vectors(train, 150, seed)[:, :2].astype(float))["gini"] for seed in (42, 43, 44)]
    assert seeds == [42, 43, 44]
    assert found.mean["gini"] == pytest.approx(np.mean(values))
    assert found.spread["gini"] == pytest.approx(np.std(values, ddof=1))
    assert measure_density(held_out, images=150, runs=1).settings["split"] == "validation"
    assert found.n == 150
    assert found.floors == floors(150)
    assert found.floors["uniform square"]["density_cv"] < found.mean["density_cv"]


def test_the_whole_chain_on_few_images(latents):
    train, _ = latents(count=100)
    found = measure_density(train, runs=1)
    assert found.n == 100
    assert 0.05 < found.mean["density_cv"] < 0.8
    with pytest.raises(UserError, match="too few for t-SNE"):
        measure_density(train, images=90)


def test_tokenizers_whose_spreads_overlap_are_not_ranked():
    def one(mean, spread):
        return Density(10, 2, {"gini": mean}, {"gini": spread}, {}, {})

    assert overlap(one(0.12, 0.01), one(0.13, 0.01), "gini")
    assert not overlap(one(0.12, 0.001), one(0.13, 0.001), "gini")
