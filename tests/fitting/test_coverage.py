"""Simulated coverage of the nominal 90 % intervals, and proof that the accepted band catches a wrong method.

Per case 75 studies of 4 families of 5 sizes. The four families of a study share their pooled variance, so the standard
error of a coverage of 0.9 is about 0.02, and the band is about 3.5 of them wide. With 400 studies (1600 families) the
same code covers 0.89-0.92 everywhere, alpha, E and prediction (measured; too slow to run each time).
Two wrong methods run beside the right one: the bootstrap over seeds within sizes, and a variance taken from the seeds
alone. In the misfit case both must fall clearly below the band.
"""

import numpy as np
import pytest

from transvae_platform.fitting.holdout import HoldOut, back_test
from transvae_platform.fitting.intervals import alpha_interval, alpha_set, floor_interval, prediction_ends
from transvae_platform.fitting.solve import make_problem, project, solve
from transvae_platform.fitting.table import build_tables
from transvae_platform.fitting.variance import Variance, choose_variances

STUDIES, FAMILIES, ALPHA, FLOOR = 75, 4, 0.3, 0.5
BAND = (0.83, 0.97)


def covered_by_seed_bootstrap(table, rng, resamples=60):
    """The common but wrong way: resample the seeds of each size, 5th to 95th percentile of alpha."""
    grid, found = np.geomspace(0.05, 1.5, 200), []
    for _ in range(resamples):
        y = [np.mean(rng.choice(s.values, len(s.values))) for s in table.sizes]
        found.append(grid[np.argmin(project(make_problem(table.x, y), grid).sse)])
    low, high = np.quantile(found, [0.05, 0.95])
    return low <= ALPHA <= high


@pytest.mark.parametrize(("sd", "tau"), [(0.005, 0.0), (0.005, 0.005)], ids=["exact-law", "misfit"])
def test_intervals_cover_as_they_claim(sd, tau, rows, law):
    rng = np.random.default_rng(20)
    hits = {kind: np.zeros(3) for kind in ("own", "default")}
    seeds_only = seed_bootstrap = pooled_families = 0
    for _ in range(STUDIES):
        points = [p for f in range(FAMILIES) for p in rows(str(f), ALPHA, sd=sd, tau=tau, rng=rng)]
        tables, _ = build_tables(points)
        fits = {t.family: (make_problem(t.x, t.y), t) for t in tables}
        solved = {f: solve(problem) for f, (problem, _) in fits.items()}
        variances = choose_variances({f: (s.sse, 2) for f, s in solved.items()})
        for f, (problem, table) in fits.items():
            pooled_families += variances.of(f).kind == "pooled"
            for kind, variance in (("own", variances.own[f]), ("default", variances.of(f))):
                alphas = alpha_set(problem, solved[f], variance, 0.9)
                interval = alpha_interval(alphas, variance, 0.9)
                floor = floor_interval(problem, alphas, variance, 0.9)
                low, high = prediction_ends(problem, alphas, [4 * table.x[-1]])
                truth = law(4 * table.x[-1], ALPHA)
                hits[kind][0] += interval.lower <= ALPHA <= interval.upper
                hits[kind][1] += floor.lower <= FLOOR <= floor.upper
                hits[kind][2] += low[0] <= truth <= high[0]
            wrong = Variance(table.seed_sd**2 / 3, 10, "own", 1)
            interval = alpha_interval(alpha_set(problem, solved[f], wrong, 0.9), wrong, 0.9)
            seeds_only += interval.lower <= ALPHA <= interval.upper
            if f == "0":
                seed_bootstrap += covered_by_seed_bootstrap(table, rng)
    total = STUDIES * FAMILIES
    for kind, counts in hits.items():
        for name, coverage in zip(("alpha", "E", "prediction at 4x"), counts / total, strict=True):
            assert BAND[0] <= coverage <= BAND[1], f"{kind} {name}: {coverage:.3f}"
    assert 0.5 < pooled_families / total < 0.8  # the spread test keeps 35 % of families apart by its level
    if tau:
        assert seeds_only / total < BAND[0] - 0.1, "the band would not catch a variance taken from seeds"
        assert seed_bootstrap / STUDIES < BAND[0] - 0.1, "the band would not catch a bootstrap over seeds"


@pytest.mark.parametrize("noisy", [(1, 1, 1, 5), (1, 1, 3, 3)], ids=["one-family", "two-families"])
def test_families_that_scatter_more_are_covered_too(noisy, rows):
    """Pooling all four, or pooling unless a 5 % test of the variances objects, covers less than 0.8 of the noisiest."""
    rng = np.random.default_rng(22)
    hits, pooled_hits = [], []
    for _ in range(STUDIES):
        tables = [
            build_tables(rows(str(f), ALPHA, sd=0.001, tau=0.002 * times, rng=rng))[0][0]
            for f, times in enumerate(noisy)
        ]
        problems = {t.family: make_problem(t.x, t.y) for t in tables}
        solved = {f: solve(p) for f, p in problems.items()}
        variances = choose_variances({f: (s.sse, 2) for f, s in solved.items()})
        every = Variance(sum(s.sse for s in solved.values()) / 8, 8, "pooled", 4)
        for f, times in enumerate(noisy):
            if times > 1:
                for kept, variance in ((hits, variances.of(str(f))), (pooled_hits, every)):
                    alphas = alpha_set(problems[str(f)], solved[str(f)], variance, 0.9)
                    interval = alpha_interval(alphas, variance, 0.9)
                    kept.append(interval.lower <= ALPHA <= interval.upper)
    assert np.mean(hits) >= 0.82
    assert np.mean(pooled_hits) < 0.82


def test_hold_out_interval_covers_the_size_left_out(rows):
    rng = np.random.default_rng(21)
    hits, errors = 0, []
    for _ in range(STUDIES):
        points = [p for f in range(FAMILIES) for p in rows(str(f), ALPHA, sd=0.005, tau=0.005, rng=rng)]
        for answer in back_test(build_tables(points)[0], "parameters", 0.9).values():
            assert isinstance(answer, HoldOut)
            hits += answer.inside
            errors.append(abs(answer.error))
    assert BAND[0] <= hits / (STUDIES * FAMILIES) <= BAND[1]
    assert np.median(errors) < 0.01
