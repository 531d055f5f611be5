"""The closed-form interval is the confidence set: compared with brute force, and honest where it has no end."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import chi2

from transvae_platform.fitting.intervals import (
    alpha_interval,
    alpha_set,
    floor_interval,
    nodes_of,
    prediction_ends,
)
from transvae_platform.fitting.solve import make_problem, project, solve
from transvae_platform.fitting.variance import Variance, choose_variances, spread_test


def fitted(y, x, s2=1e-4, df=8):
    problem = make_problem(x, y)
    solution = solve(problem)
    variance = Variance(s2, df, "pooled", 4)
    return problem, solution, variance, alpha_set(problem, solution, variance, 0.9)


@pytest.fixture
def x(ladder):
    return np.array(list(ladder.values()))


def test_alpha_ends_lie_on_the_threshold(law, x):
    rng = np.random.default_rng(0)
    problem, _, variance, alphas = fitted(law(x, 0.3) * (1 + 0.005 * rng.standard_normal(5)), x, s2=2.5e-5)
    interval = alpha_interval(alphas, variance, 0.9)
    assert interval.bounded
    ends = project(problem, [interval.lower, interval.upper]).sse
    np.testing.assert_allclose(ends, alphas.threshold, rtol=1e-8)


@pytest.mark.parametrize("s2", [1e-6, 2.5e-5, 4e-4])
@pytest.mark.parametrize("target", ["E", "prediction"])
def test_ends_agree_with_constrained_optimisation(law, x, s2, target):
    rng = np.random.default_rng(1)
    y = law(x, 0.3) * (1 + np.sqrt(s2) * rng.standard_normal(5))
    problem, solution, variance, alphas = fitted(y, x, s2)
    log_new = np.log(3 * x[-1] / problem.N0)
    if target == "E":
        interval = floor_interval(problem, alphas, variance, 0.9)
        low, high = interval.lower, interval.upper
        value = lambda p: p[0]  # noqa: E731
    else:
        low, high = (float(end[0]) for end in prediction_ends(problem, alphas, [3 * x[-1]]))
        value = lambda p: p[0] + p[1] * np.exp(-p[2] * log_new)  # noqa: E731
    residual = lambda p: 1 - (p[0] + p[1] * np.exp(-p[2] * problem.log_x)) / y  # noqa: E731
    inside = {"type": "ineq", "fun": lambda p: 1e3 * (alphas.threshold - (residual(p) ** 2).sum()) / alphas.threshold}
    for sign, end in ((1, low), (-1, high)):
        found = []
        for nudge in (0.9, 1.0, 1.1):
            start = [solution.law.E, solution.law.A0, solution.law.alpha * nudge]
            result = minimize(
                lambda p, s=sign: s * value(p), start, constraints=inside, method="SLSQP",
                bounds=[(0, 5), (0, 5), (1e-3, 10)], options={"ftol": 1e-13, "maxiter": 800},
            )  # fmt: skip
            if inside["fun"](result.x) > -1e-6:
                found.append(sign * result.fun)
        assert end == pytest.approx(min(found) if sign == 1 else max(found), abs=2e-4 * (high - low))


def test_nodes_lose_little_of_the_union(law, x, monkeypatch):
    rng = np.random.default_rng(2)
    problem, _, variance, alphas = fitted(law(x, 0.3) * (1 + 0.01 * rng.standard_normal(5)), x)
    coarse = floor_interval(problem, alphas, variance, 0.9)
    monkeypatch.setattr("transvae_platform.fitting.intervals.nodes_of", lambda a: nodes_of(a, 20_001))
    fine = floor_interval(problem, alphas, variance, 0.9)
    assert coarse.lower == pytest.approx(fine.lower, abs=1e-4 * (fine.upper - fine.lower))
    assert coarse.upper == pytest.approx(fine.upper, abs=1e-4 * (fine.upper - fine.lower))


def test_unbounded_ends_are_reported_as_such(x):
    step = np.array([1.0, 0.9, 0.9, 0.9, 0.9])
    _, _, variance, alphas = fitted(step, x, s2=1e-6)
    interval = alpha_interval(alphas, variance, 0.9)
    assert (interval.bounded_below, interval.bounded_above, interval.upper) == (True, False, np.inf)
    _, _, variance, alphas = fitted(np.full(5, 0.9), x)
    interval = alpha_interval(alphas, variance, 0.9)
    assert (interval.lower, interval.upper, interval.bounded) == (0.0, np.inf, False)


def test_floor_that_reaches_zero_is_flagged(x):
    problem, _, variance, alphas = fitted((x / x[0]) ** -0.2, x)
    interval = floor_interval(problem, alphas, variance, 0.9)
    assert interval.lower == 0.0
    assert not interval.bounded_below


def test_two_variances_are_compared_by_f():
    # F(df, df), upper 5 %: 19.0 with 2 and 2, 5.14 with 2 and 6 degrees of freedom (printed tables)
    assert spread_test(19.0, 2, [(1.0, 2)]).p_value == pytest.approx(0.05, abs=0.005)
    assert spread_test(5.14, 2, [(1.0, 6)]).p_value == pytest.approx(0.05, abs=0.005)


def test_the_spread_test_keeps_its_level_with_unequal_df():
    rng = np.random.default_rng(6)
    dfs = [1, 2, 3, 2]
    draws = chi2.rvs(dfs, size=(4000, 4), random_state=rng) / dfs
    p = [spread_test(s2[0], 1, list(zip(s2[1:], dfs[1:], strict=True))).p_value for s2 in draws.tolist()]
    assert np.mean(np.array(p) < 0.35) == pytest.approx(0.35, abs=0.025)
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.012)


def test_two_noisy_families_do_not_hide_each_other():
    alone = spread_test(25.0, 2, [(1.0, 2), (1.1, 2), (0.9, 2)])
    together = spread_test(25.0, 2, [(1.0, 2), (1.1, 2), (24.0, 2)])
    assert alone.outside
    assert together.outside
    assert together.ratio == pytest.approx(25 / 1.05)


def test_a_family_that_scatters_more_keeps_its_own_variance():
    alike = choose_variances({"a": (2e-4, 2), "b": (2.4e-4, 2), "c": (2.2e-4, 2)})
    assert [alike.of(f).kind for f in "abc"] == ["pooled"] * 3
    assert (alike.pooled.s2, alike.pooled.df) == (pytest.approx(1.1e-4), 6)
    assert alike.of("without a law") == alike.pooled
    noisy = choose_variances({"a": (2e-4, 2), "b": (2.4e-4, 2), "c": (2.2e-4, 2), "d": (60e-4, 2)})
    assert (noisy.pooled.s2, noisy.pooled.df, noisy.pooled.families) == (pytest.approx(1.1e-4), 6, 3)
    assert noisy.of("d") == noisy.own["d"]
    assert noisy.of("d").s2 == pytest.approx(30e-4)
    doubtful = choose_variances({"a": (2e-4, 2), "b": (2.4e-4, 2), "c": (2.2e-4, 2), "d": (8e-4, 2)})
    assert doubtful.of("d").kind == "own"
    assert doubtful.pooled.families == 4  # only seemingly noisy: without it the others would be too sure


def test_one_family_has_nothing_to_pool_with():
    alone = choose_variances({"a": (2e-4, 2)})
    assert (alone.pooled, alone.spread, alone.of("a")) == (None, {}, alone.own["a"])
    two = choose_variances({"a": (2e-8, 2), "b": (4e-4, 2)})
    assert two.pooled is None
    assert [two.of(f) for f in "ab"] == [two.own["a"], two.own["b"]]
