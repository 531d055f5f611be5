"""The sweep over delta of L(N): a sensitivity that agrees with least squares where it must and shows one bad size."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import least_squares

from transvae_platform.fitting import Request, fit_families
from transvae_platform.fitting.answers.answer import answer
from transvae_platform.fitting.runs.read import runs_of
from transvae_platform.fitting.sweep import family_sweep


@pytest.fixture
def fit(rows):
    rng = np.random.default_rng(70)
    (found,) = fit_families(rows("a", 0.3, sd=0.003, rng=rng), metric="l1").families
    return found


def test_every_delta_is_the_optimum_of_scipy(rows):
    """least_squares(loss="huber") of log residuals is the same objective, from several starts."""
    (fit,) = fit_families(rows("a", 0.3, tau=0.02, rng=np.random.default_rng(72)), metric="l1").families
    x, y = np.array([s.x for s in fit.sizes]) / 1e8, np.array([s.mean for s in fit.sizes])

    def residuals(t):
        return np.log(y) - np.log(t[0] + t[1] * x ** -t[2])

    sweep = family_sweep(fit)
    assert [s.delta for s in sweep] == [1e-3, 1e-2, 1e-1, "inf"]
    assert len({round(s.objective, 9) for s in sweep}) >= 3
    for swept in sweep:
        how = {"loss": "linear"} if swept.delta == "inf" else {"loss": "huber", "f_scale": swept.delta}
        starts = [(0.5, 0.4, a) for a in (0.15, 0.3, 0.6)]
        best = min(
            (least_squares(residuals, s, bounds=([0, 0, 0.01], 5), ftol=1e-14, xtol=1e-14, gtol=1e-14, **how)
             for s in starts), key=lambda found: found.cost)  # fmt: skip
        assert swept.objective == pytest.approx(best.cost, rel=1e-6)
        assert swept.alpha == pytest.approx(best.x[2], rel=1e-3)
        assert swept.doubts == ()


def test_one_bad_size_shows_in_the_sweep(fit, rows):
    def moved(fitted):
        alphas = [s.alpha for s in family_sweep(fitted)]
        return max(alphas) / min(alphas)

    bad = [replace(p, value=p.value * (1.05 if p.size == "L" else 1)) for p in rows("a", 0.3)]
    assert moved(fit_families(bad, metric="l1").families[0]) > 1.3 > moved(fit)


def test_the_document_lists_the_sweep_and_the_delta_that_was_asked_for(rows):
    rng = np.random.default_rng(71)
    table = [{"family": p.family, "size": p.size, "seed": p.seed, "parameters": p.x, "loss": p.value}
             for p in rows("a", 0.3, sd=0.003, rng=rng)]  # fmt: skip
    usual, asked = (answer(runs_of(table, "t"), Request(loss="loss", delta=d))[0]["result"] for d in (None, 0.02))
    assert [s["delta"] for s in asked["delta_sweep"]["a"]] == [0.001, 0.01, 0.02, 0.1, "inf"]
    assert usual["families"] == asked["families"]  # the fit and its intervals stay those of least squares


def test_a_flat_curve_has_no_sweep(rows):
    flat = [replace(p, value=1.0) for p in rows("a", 0.3)]
    assert family_sweep(fit_families(flat, metric="l1").families[0]) == ()
