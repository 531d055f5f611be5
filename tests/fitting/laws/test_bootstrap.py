"""Replicates reach the optimum of their own resample, also where the full fit has lost a term."""

import numpy as np
import pytest

from transvae_platform.fitting.laws.bootstrap import bootstrap, resample
from transvae_platform.fitting.laws.fit import fit_law
from transvae_platform.fitting.laws.forms import L_OF_N_D
from transvae_platform.fitting.laws.models import Robust

LEAST_SQUARES = Robust(float("inf"))


def grid(floor, seed):
    """36 runs whose floor is hard to see: exponents of 0.15 over two decades, 2 % of noise."""
    N, D = np.repeat(np.geomspace(1e7, 1e9, 6), 6), np.tile(np.geomspace(1e8, 1e10, 6), 6)
    law = floor + 0.5 * (N / 1e7) ** -0.15 + 0.5 * (D / 1e8) ** -0.15
    return {"N": N, "D": D}, law * np.exp(np.random.default_rng(seed).normal(0, 0.02, 36))


@pytest.mark.parametrize("seed", [3, 9])
def test_a_term_that_vanished_in_the_fit_is_found_again(seed):
    columns, loss = grid(0.1, seed)
    fit = fit_law(L_OF_N_D, columns, loss, LEAST_SQUARES)
    assert fit.converged
    assert fit.parameters["E"] < 1e-6
    draws, (weights, _) = bootstrap(fit, replicates=24, seed=0), resample(36, 24, 0)
    own = [fit_law(L_OF_N_D, columns, loss, LEAST_SQUARES, weights=w).objective for w in weights]
    assert (draws.objective <= np.array(own) * (1 + 1e-6)).all()
    assert draws.moved > 0
    assert draws.interval("E", 0.9)[1] > 0.05


def test_a_fit_with_all_its_terms_starts_once():
    columns, loss = grid(2.0, 0)
    fit = fit_law(L_OF_N_D, columns, loss, LEAST_SQUARES)
    assert bootstrap(fit, replicates=5, seed=0).moved is None
