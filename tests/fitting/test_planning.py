"""The next run is the one that narrows the headline most per hour; the error budget comes first."""

from dataclasses import replace

import numpy as np
import pytest
from tests.fitting.conftest import LADDER, true_loss

from transvae_platform.fitting import Point, fit_families
from transvae_platform.fitting.planning import Cell, forecast, next_runs

HOURS = {"T": 1.0, "B": 3.0, "L": 12.0, "H": 30.0, "G": 50.0}


def cells(finished, families=("a", "b"), seeds=3, sd=0.003, seed=90):
    """finished: which (size, seed) are done."""
    rng = np.random.default_rng(seed)
    return [
        Cell(f, size, s, x, HOURS[size],
             float(true_loss(x, 0.3) * (1 + sd * rng.standard_normal())) if (size, s) in finished else None)
        for f in families
        for size, x in LADDER.items()
        for s in range(seeds)
    ]  # fmt: skip


def points(plan):
    return [Point(c.family, c.size, c.seed, c.x, c.value) for c in plan if c.value]


def report(plan):
    return fit_families(points(plan), metric="l1")


def advice(plan, study=None):
    """What to run next of a plan; study: cells that were finished elsewhere (default: the plan's own)."""
    study = plan if study is None else study
    return next_runs(plan, points(study), report(study))


ONE_SEED = {(size, 0) for size in LADDER}
BUDGET = ONE_SEED | {("T", 1), ("T", 2)}


def test_three_seeds_of_the_smallest_size_come_first():
    plan = cells(ONE_SEED)
    first = advice(plan)
    assert [(r.cell.family, r.cell.size, r.cell.seed) for r in first] == [("a", "T", 1), ("b", "T", 1)]
    assert "error budget" in first[0].why
    halfway = cells(ONE_SEED | {("T", 1)})
    assert [(r.cell.size, r.cell.seed) for r in advice(halfway)] == [("T", 2)] * 2


def test_then_the_cheapest_narrowing_comes_first():
    plan = cells(BUDGET)
    runs = advice(plan)
    assert [r.per_hour for r in runs] == sorted((r.per_hour for r in runs), reverse=True)
    by = {(r.cell.family, r.cell.size): r for r in runs}
    # a further seed of an inner size moves no end of the contrast, one of the largest does
    assert by["a", "L"].before == by["a", "L"].after
    assert by["a", "G"].after < by["a", "G"].before
    assert by["a", "T"].cell.seed == 3


def test_a_new_size_widens_the_range():
    plan = cells(BUDGET - {("G", 0)})
    by = {(r.cell.family, r.cell.size): r for r in advice(plan)}
    assert by["a", "G"].why == "a new size"
    assert by["a", "G"].after < by["a", "H"].after


def test_the_promised_width_is_what_the_run_brings():
    """Mean over simulations of the width after the suggested run, against the promise; noise only."""
    promised, brought = [], []
    for seed in range(30):
        plan, done = cells(BUDGET - {("G", 0)}, seed=seed), cells(BUDGET, seed=seed)
        run = next(r for r in advice(plan) if r.cell.size == "G" and r.cell.family == "a")
        both = report([c for c in done if c.family == "a" or c.size != "G"])
        if run.after is None or {f.variance and f.variance.kind for f in both.families} != {"pooled"}:
            continue  # one family scatters more, and four sizes alone have no interval
        promised.append(run.after)
        widths = [(f.gain.interval.upper - f.gain.interval.lower) / f.gain.decades for f in both.families]
        brought.append(np.mean(widths))
    assert 0.6 < np.median(promised) / np.median(brought) < 1.6


def test_widths_are_those_of_the_fit_also_where_one_family_scatters_more():
    """Three seeds everywhere, so that the model of the scatter has nothing to split: both widths must agree."""
    done = {(size, s) for size in LADDER for s in range(3)}
    rng, plan = np.random.default_rng(4), []
    for family, tau in zip("abcd", (0.003, 0.003, 0.003, 0.05), strict=True):
        noisy = {x: 1 + tau * rng.standard_normal() for x in LADDER.values()}
        plan += [replace(c, value=c.value * noisy[c.x]) for c in cells(done, (family,), sd=0.0005)]
    fits = report(plan)
    assert [f.variance.kind for f in fits.families] == ["pooled", "pooled", "pooled", "own"]
    runs = advice(plan)
    widths = [(f.gain.interval.upper - f.gain.interval.lower) / f.gain.decades for f in fits.families]
    assert runs[0].before == pytest.approx(np.mean(widths), rel=1e-9)


def test_forecasts_cover_new_runs_and_refuse_far_ones():
    hits = total = 0
    for seed in range(40):
        truth, plan = cells(BUDGET, seed=seed, sd=0.005), cells(BUDGET - {("G", 0)}, seed=seed, sd=0.005)
        known = {(c.family, c.size, c.seed): c.value for c in truth}
        for found in forecast(plan, report(plan)):
            if found.interval is None:
                assert found.refused == "no variance is known, so no interval"
            elif found.cell.size == "G" and found.cell.seed == 0:
                total += 1
                hits += found.interval.lower <= known[found.cell.family, "G", 0] <= found.interval.upper
    assert total > 40
    assert hits / total >= 0.83
    far = [*cells(BUDGET), Cell("a", "XL", 0, 1e11, 500.0), Cell("c", "T", 0, 4e7, 1.0)]
    refused = {f.cell.family + f.cell.size: f.refused for f in forecast(far, report(far)) if f.refused}
    assert "predictions end at 4 times" in refused["aXL"]
    assert refused["cT"] == "no finished run of c"


def test_too_few_sizes_for_any_judgement():
    plan = cells({("T", 0), ("T", 1), ("T", 2), ("B", 0)})
    runs = advice(plan)
    assert [r.cell.size for r in runs][:2] == ["L", "L"]
    assert "no family has four yet" in runs[0].why


def only(plan, keep):
    return [c for c in plan if keep(c)]


@pytest.mark.parametrize(("sizes", "seeds"), [("G", 1), ("H", 3), ("T", 4), ("HG", 3), ("TB", 3)])
def test_what_is_finished_comes_from_the_informing_study_not_from_the_plan(sizes, seeds):
    """A study with three seeds of all sizes but the largest: its error budget and its degrees of freedom are known."""
    study = cells({(size, s) for size in "TBLH" for s in range(3)})
    runs = advice(only(cells({}, seeds=seeds), lambda c: c.size in sizes), study)
    assert len(runs) == 2 * len(sizes)
    assert all(r.before is not None and np.isfinite([r.before, r.after]).all() for r in runs)
    assert {r.why for r in runs if r.cell.size == "G"} <= {"a new size"}
    assert {r.cell.seed for r in runs if r.cell.size != "G"} <= {3}


def test_a_family_without_a_gain_comes_before_any_narrowing():
    study = [*cells({(size, s) for size in LADDER for s in range(3)}), *cells({("T", s) for s in range(3)}, ("c",))]
    runs = advice(study)
    assert [(r.cell.family, r.cell.size) for r in runs[:4]] == [("c", size) for size in "BLHG"]
    assert all(r.per_hour >= 0 for r in runs[4:])


def test_a_forecast_of_one_run_holds_the_noise_of_its_seed():
    """Means of three seeds scatter less than single runs: with their scatter alone, far fewer are inside."""
    hits, done = [], {(size, s) for size in LADDER for s in range(3)}
    for seed in range(30):
        truth = cells({*done, *((size, 3) for size in LADDER)}, "abcd", seeds=4, seed=seed, sd=0.01)
        plan = [replace(c, value=None) if c.seed == 3 else c for c in truth]
        values = {(c.family, c.size): c.value for c in truth if c.seed == 3}
        hits += [
            found.interval.lower <= values[found.cell.family, found.cell.size] <= found.interval.upper
            for found in forecast(plan, report(plan))
            if found.interval is not None
        ]
    assert len(hits) > 500
    assert 0.87 <= np.mean(hits) <= 0.95
