"""Families at equal x, one floor for all as a sensitivity, and one correction over several metrics."""

from dataclasses import replace

import numpy as np
import pytest

from transvae_platform.fitting import Point, fit_families
from transvae_platform.fitting.shared import LABEL
from transvae_platform.fitting.study import over_metrics


def shifted(points, factor, family):
    return [replace(p, family=family, x=p.x * factor) for p in points]


def test_sizes_are_compared_at_equal_x_and_not_by_their_letters(rows):
    """The same law on a ladder of half the parameters: every letter is worse, at equal x nothing differs."""
    rng = np.random.default_rng(80)
    a = rows("a", 0.3, sd=0.002, rng=rng)
    law = lambda x: 0.5 + 0.5 * (np.asarray(x) / 44e6) ** -0.3  # noqa: E731
    b = [Point("b", p.size, p.seed, p.x / 2, float(law(p.x / 2) * (1 + 0.002 * rng.standard_normal()))) for p in a]
    report = fit_families(a + b, metric="l1")
    assert all(fb.mean > fa.mean for fa, fb in zip(report.family("a").sizes, report.family("b").sizes, strict=True))
    assert len(report.ratios) == 2
    assert all("cannot tell" in c.answer for c in report.ratios)


def test_a_better_family_is_named_with_its_distance(rows):
    rng = np.random.default_rng(81)
    a = rows("a", 0.3, sd=0.002, rng=rng)
    b = [replace(p, family="b", value=p.value * 0.9) for p in rows("b", 0.3, sd=0.002, rng=rng)]
    middle, end = fit_families(a + b, metric="l1", x_name="training_flops").ratios
    for contrast in (middle, end):
        assert contrast.answer.startswith("the loss of b is 10 % below that of a at training_flops = ") or (
            contrast.answer.startswith("the loss of b is 9.")
        )
        assert contrast.interval.lower < -np.log(0.9) < contrast.interval.upper
    assert fit_families(a + shifted(b, 1e6, "b"), metric="l1").ratios == ()


def test_ratio_intervals_cover(rows):
    rng, hits = np.random.default_rng(82), 0
    for _ in range(50):
        points = rows("a", 0.3, sd=0.005, rng=rng) + rows("b", 0.3, sd=0.005, rng=rng)
        hits += sum(c.interval.lower <= 0 <= c.interval.upper for c in fit_families(points, metric="l1").ratios)
    assert 0.8 <= hits / 100 <= 0.98


def test_shared_floor_narrows_towards_the_truth_and_says_what_it_is(rows):
    rng = np.random.default_rng(83)
    points = [p for f, a in (("a", 0.2), ("b", 0.3), ("c", 0.4)) for p in rows(f, a, sd=0.0005, rng=rng)]
    shared = fit_families(points, metric="l1").shared_floor
    assert pytest.approx(0.5, abs=0.02) == shared.E
    assert shared.alphas == pytest.approx({"a": 0.2, "b": 0.3, "c": 0.4}, abs=0.02)
    assert shared.label == LABEL
    other = [replace(p, value=p.value + 0.3) if p.family == "c" else p for p in points]
    assert fit_families(other, metric="l1").shared_floor.p_value < 0.01
    assert fit_families(points[:15], metric="l1").shared_floor is None


def test_one_correction_over_pairs_and_metrics(rows):
    rng = np.random.default_rng(84)
    points = [p for f, a in (("a", 0.22), ("b", 0.3)) for p in rows(f, a, sd=0.003, rng=rng)]
    alone = fit_families(points, metric="l1")
    both = over_metrics([alone, fit_families(points, metric="mse")])
    for before, after in zip(alone.gain_contrasts, both[0].gain_contrasts, strict=True):
        assert after.p_holm == pytest.approx(min(1, 2 * before.p_value))
    many = over_metrics([alone] * 100)[0].alpha_contrasts[0]
    assert "cannot tell" in many.answer
    assert alone.alpha_contrasts[0].p_value == many.p_value
