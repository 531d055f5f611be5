"""The optimum is exact, global and the same as an independent solver's."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from transvae_platform.fitting.forms import POWER_LAW
from transvae_platform.fitting.solve import make_problem, project, solve


@pytest.mark.parametrize("alpha", [0.05, 0.15, 0.3, 0.7, 1.5])
@pytest.mark.parametrize("scale", [1.0, 1e9, 1e18])
@pytest.mark.parametrize("floor", [0.0, 0.02, 3.0])
def test_noiseless_data_give_the_law_back(alpha, scale, floor):
    x = scale * np.array([1.0, 3.2, 12.4, 29.5, 52.3])
    y = floor + 0.5 * (x / scale) ** -alpha
    solution = solve(make_problem(x, y))
    assert solution.converged
    assert solution.law.alpha == pytest.approx(alpha, rel=1e-6)
    assert pytest.approx(floor, abs=1e-6) == solution.law.E
    assert pytest.approx(0.5 * scale**alpha, rel=1e-5) == solution.law.A
    np.testing.assert_allclose(solution.law(x), y, rtol=1e-9)


def test_agrees_with_scipy_on_noisy_data(law, ladder):
    rng = np.random.default_rng(3)
    x = np.array(list(ladder.values()))
    for _ in range(20):
        y = law(x, 0.3) * (1 + 0.005 * rng.standard_normal(5))
        solution = solve(make_problem(x, y))
        log_x = np.log(x / solution.law.N0)
        other = least_squares(
            lambda p: 1 - (p[0] + p[1] * np.exp(-p[2] * log_x)) / y,  # noqa: B023
            [0.4, 0.3, 0.3], bounds=([0, 0, 1e-3], [np.inf, np.inf, 10]), xtol=1e-15, ftol=1e-15, gtol=1e-15,
        )  # fmt: skip
        assert solution.converged
        assert abs(solution.gradient) <= 1e-8
        assert solution.sse <= 2 * other.cost * (1 + 1e-9)
        assert [solution.law.E, solution.law.A0, solution.law.alpha] == pytest.approx(other.x.tolist(), rel=1e-6)


def test_no_alpha_of_a_fine_grid_is_better(law, ladder):
    rng = np.random.default_rng(4)
    x = np.array(list(ladder.values()))
    grid = np.geomspace(1e-3, 10, 20_001)
    for _ in range(60):
        problem = make_problem(x, law(x, 0.2) * (1 + 0.05 * rng.standard_normal(5)))
        solution = solve(problem)
        assert solution.converged
        assert solution.sse <= project(problem, grid).sse.min() * (1 + 1e-12)


def test_slope_is_the_derivative_also_on_the_edges_of_the_quadrant(law, ladder):
    rng = np.random.default_rng(5)
    x = np.array(list(ladder.values()))
    for y in (law(x, 0.3) * (1 + 0.02 * rng.standard_normal(5)), (x / x[0]) ** -0.3, np.sqrt(x / x[0])):
        problem = make_problem(x, y)
        alphas, h = np.geomspace(0.01, 3, 50), 1e-6
        numeric = (project(problem, alphas + h).sse - project(problem, alphas - h).sse) / (2 * h)
        np.testing.assert_allclose(project(problem, alphas).slope, numeric, atol=1e-7)


def test_power_law_has_no_floor():
    x = np.array([1.0, 4.0, 20.0])
    solution = solve(make_problem(x, 2 * x**-0.25, POWER_LAW))
    assert (solution.law.E, solution.law.alpha) == (0.0, pytest.approx(0.25, rel=1e-9))
    assert pytest.approx(2.0) == solution.law.A


def test_flat_and_rising_data_have_no_exponent():
    x = np.array([1.0, 4.0, 20.0, 60.0])
    for y in (np.full(4, 0.7), x**0.1):
        solution = solve(make_problem(x, y))
        assert solution.flat
        assert solution.law.alpha is None
        assert np.ptp(solution.law(x)) == 0


def test_slopes_of_rounding_size_end_no_search(ladder):
    """Sums over a batch of alphas round otherwise than those over one; a sign that flips is no reason to stop."""
    rng = np.random.default_rng(6)
    x = np.array(list(ladder.values()))
    assert solve(make_problem(x, np.full(5, 0.122))).flat
    for _ in range(150):
        sizes = x * rng.uniform(0.9, 1.1, 5)
        assert solve(make_problem(sizes, np.full(5, rng.uniform(0.1, 1.0)))).flat
        wide = np.sort(10 ** rng.uniform(7, 16, 5))
        problem = make_problem(wide, np.where(wide == wide[0], 1.0, 0.5) * np.exp(rng.normal(0, 1e-3, 5)))
        assert solve(problem).sse <= project(problem, np.geomspace(1e-3, 10, 2000)).sse.min() * (1 + 1e-9)


def test_unconverged_starts_are_noticed(law, ladder):
    from dataclasses import replace

    x = np.array(list(ladder.values()))
    solution = solve(make_problem(x, law(x, 0.3)))
    assert not replace(solution, starts_agreeing=2).converged
    assert not replace(solution, gradient=1e-6).converged


@pytest.mark.parametrize(
    ("x", "y"), [([1.0, 2.0], [1.0]), ([1.0, np.nan], [1.0, 1.0]), ([1.0, 2.0], [1.0, -1.0]), ([1.0], [1.0])]
)
def test_problem_refuses_what_is_no_table(x, y):
    with pytest.raises(ValueError):
        make_problem(x, y)
