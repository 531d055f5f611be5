"""Simulated studies: the paper's ladder of five sizes, a true law, seed noise and a misfit per size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from transvae_platform.fitting import Point

# Parameters of TransVAE T, B, L, H, G as the TransVAE paper prints them.
LADDER = {"T": 44e6, "B": 140e6, "L": 545e6, "H": 1.3e9, "G": 2.3e9}


def true_loss(x, alpha, share=0.5):
    """1 at the smallest size, of which `share` is reducible."""
    return (1 - share) + share * (np.asarray(x) / LADDER["T"]) ** -alpha


def make_points(family, alpha, *, sizes="TBLHG", seeds=3, sd=0.0, tau=0.0, rng=None, share=0.5):
    """Rows of one family: relative noise sd per seed, relative misfit tau per size (shared by its seeds)."""
    points = []
    for size in sizes:
        x = LADDER[size]
        misfit = tau * rng.standard_normal() if tau else 0.0
        for seed in range(seeds):
            noise = sd * rng.standard_normal() if sd else 0.0
            points.append(Point(family, size, seed, x, float(true_loss(x, alpha, share) * (1 + misfit + noise))))
    return points


@pytest.fixture
def rows() -> Callable[..., list[Point]]:
    return make_points


@pytest.fixture
def law() -> Callable[..., np.ndarray]:
    return true_loss


@pytest.fixture
def ladder() -> dict[str, float]:
    return LADDER
