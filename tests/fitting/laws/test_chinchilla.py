"""The Chinchilla data: two optima that are two estimators, the published bootstrap, and a solver that stops early."""

import csv

import numpy as np
import pytest
from scipy.optimize import minimize
from tests.fitting.public import DATA, expected, needs_public_data

from transvae_platform.fitting.laws.bootstrap import bootstrap, resample
from transvae_platform.fitting.laws.fit import delta_sweep, fit_law, least_absolute
from transvae_platform.fitting.laws.forms import L_OF_N_D
from transvae_platform.fitting.laws.models import Robust
from transvae_platform.fitting.laws.newton import minimise
from transvae_platform.fitting.laws.start import starts

pytestmark = needs_public_data
NAMES = ("A", "B", "E", "alpha", "beta")


@pytest.fixture(scope="module")
def points():
    with (DATA / "chinchilla_epoch" / "svg_extracted_data.csv").open() as file:
        rows = [[float(r[k]) for k in ("Model Size", "Training FLOP", "loss")] for r in csv.DictReader(file)]
    n, c, loss = np.array(rows).T
    kept = loss < np.sort(loss)[-5]
    return {"N": n[kept], "D": (c / (6 * n))[kept]}, loss[kept]


@pytest.fixture(scope="module")
def fit(points):
    return fit_law(L_OF_N_D, *points, Robust(1e-3))


@pytest.fixture(scope="module")
def replicates(fit):
    return bootstrap(fit, replicates=4000, seed=42)


def test_huber_optimum_is_proven(fit, points):
    want = expected("chinchilla_epoch")["reproduced_global_optimum_huber_1e-3"]
    assert fit.converged
    assert (fit.gradient < 1e-10, fit.agreeing >= 3, fit.condition < 1e5) == (True, True, True)
    assert fit.objective == pytest.approx(want["objective"], abs=1e-14)
    for name in NAMES:
        assert fit.parameters[name] == pytest.approx(want[name], rel=1e-6)


def test_least_absolute_deviations_are_another_optimum(fit, points):
    want, lad = expected("chinchilla_epoch")["published_point_estimate_is_LAD"], least_absolute(fit)
    for name in NAMES:
        assert lad.parameters[name] == pytest.approx(want[name], rel=5e-6)
    assert np.abs(lad.residuals(points[0])).sum() == pytest.approx(want["sum_abs_residual"], rel=1e-8)
    assert lad.parameters["A"] - fit.parameters["A"] == pytest.approx(4.18, abs=0.01)
    (value, _, _) = fit.model.derivatives(lad.theta[None], fit.weights[None], Robust(1e-3))
    above = expected("chinchilla_epoch")["huber_1e-3_objective_at_published_point"]
    assert float(value[0]) == pytest.approx(above, rel=1e-6)


def test_delta_moves_the_answer_as_published(fit, points):
    want = expected("chinchilla_epoch")["reproduced_delta_sweep"]
    sweep = {f.robust.delta: f for f in delta_sweep(fit, points[0])}
    for delta, key in ((1e-2, "1e-2"), (1e-1, "0.1_and_above"), (np.inf, "0.1_and_above")):
        assert sweep[delta].converged
        assert {n: sweep[delta].parameters[n] for n in NAMES} == pytest.approx({n: want[key][n] for n in NAMES}, 1e-6)


def test_published_bootstrap(replicates):
    want = expected("chinchilla_epoch")
    first = want["first_3_resamples_seed42"]["reproduced"]
    assert replicates.failed == 0
    assert replicates.objective[:3].tolist() == pytest.approx(first["objective"], abs=1e-12)
    for name in NAMES:
        assert replicates.values()[name][:3].tolist() == pytest.approx(first[name], rel=2e-6)
        assert replicates.errors()[name] == pytest.approx(want["reproduced_se_same_resamples"][name], rel=1e-3)
        assert replicates.errors()[name] == pytest.approx(want["published_se_4000_bootstraps_seed42"][name], rel=2e-3)
        assert replicates.interval(name, 0.95) == pytest.approx(want["reproduced_ci95_same_resamples"][name], rel=3e-4)
        # the published lower end of A is another percentile rule's
        assert replicates.interval(name, 0.95) == pytest.approx(want["published_ci95"][name], rel=4e-3)


def test_resamples_are_those_of_one_choice_per_replicate():
    generator = np.random.RandomState(42)
    one_by_one = [np.bincount(generator.choice(np.arange(240), size=240), minlength=240) for _ in range(5)]
    np.testing.assert_array_equal(resample(240, 5, 42)[0], one_by_one)


def test_the_first_replicates_are_global_optima(fit, replicates):
    weights, _ = resample(240, 4000, 42)
    begin = starts(fit.model, fit.weights, 0)[:6]
    for b in range(100):
        best = minimise(fit.model, begin, np.broadcast_to(weights[b], (len(begin), 240)), fit.robust).f.min()
        assert replicates.objective[b] <= best + 1e-10


def test_we_do_not_stop_where_default_tolerances_do(fit, replicates):
    """SciPy's L-BFGS-B, with our exact gradient and its default tolerances, says success far above the optimum."""
    weights, _ = resample(240, 4000, 42)
    # the published parametrisation: ln A and ln B at N = 1 and D = 1; ours are in the middle of the data
    to_ours = np.eye(5)
    for amplitude, mean in enumerate(fit.model.means):
        for name, value in mean.items():
            to_ours[amplitude, fit.form.parameters.index(name)] = value
    hoffmann = {"A": 6.0073404, "B": 6.0179186, "E": 0.5267228, "alpha": 0.33917084, "beta": 0.2849083}
    gaps = []
    for b in range(10):

        def objective(raw, b=b):
            f, g, _ = fit.model.derivatives((to_ours @ raw)[None], weights[b][None], fit.robust)
            return f[0], g[0] @ to_ours

        theirs = minimize(objective, [hoffmann[n] for n in fit.form.parameters], jac=True, method="L-BFGS-B")
        assert theirs.success
        gaps.append(theirs.fun - replicates.objective[b])
    assert np.median(gaps) > 5e-5  # of an objective of 1e-3
    assert min(gaps) > -1e-12
