"""Saturation is claimed only below a margin; a gain that is not significant is never read as one."""

import numpy as np
import pytest
from tests.fitting.conftest import LADDER

from transvae_platform.fitting import Point, fit_families
from transvae_platform.fitting.saturation import saturation_of
from transvae_platform.fitting.table import build_tables
from transvae_platform.fitting.variance import Variance


def table(values):
    points = [Point("f", size, 0, x, float(v)) for (size, x), v in zip(LADDER.items(), values, strict=True)]
    return build_tables(points)[0][0]


def test_three_answers():
    variance = Variance(0.002**2, 8, "pooled", 4)
    last = {"improving": 0.60, "saturated": 0.6999, "cannot tell": 0.6965}
    for claim, value in last.items():
        margin = 0.01 if claim != "saturated" else 0.02
        found = saturation_of(table([1, 0.9, 0.8, 0.7, value]), variance, 0.9, margin)
        assert found.claim == claim
        assert found.lower < found.gain < found.upper
    assert "excludes neither 0 nor the margin of 1 %" in found.sentence
    assert "from H to G" in found.sentence
    assert saturation_of(table([1, 0.9, 0.8, 0.7, 0.7]), None, 0.9, 0.01) is None


@pytest.mark.parametrize(("gain", "sd"), [(0.01, 0.001), (0.01, 0.005), (0.03, 0.02)])
def test_a_family_that_gains_the_margin_is_seldom_called_saturated(gain, sd):
    """At a true gain of the margin or more the claim is false: nominal 5 %, one-sided at level 0.9."""
    rng, claims, studies = np.random.default_rng(71), 0, 1000
    for _ in range(studies):
        y = np.array([1, 0.9, 0.8, 0.7, 0.7 / (1 + gain)]) * (1 + sd * rng.standard_normal(5))
        variance = Variance(sd**2 * rng.chisquare(8) / 8, 8, "pooled", 4)
        claims += saturation_of(table(y), variance, 0.9, 0.01).claim == "saturated"
    assert claims / studies <= 0.07


def test_a_gain_that_is_not_significant_is_not_called_saturated():
    """The trap: flat in truth or not, noise of 2 % must answer 'cannot tell'."""
    rng, found = np.random.default_rng(73), []
    for _ in range(300):
        y = np.array([1, 0.9, 0.8, 0.7, 0.7]) * (1 + 0.02 * rng.standard_normal(5))
        found.append(saturation_of(table(y), Variance(0.02**2 * rng.chisquare(8) / 8, 8, "pooled", 4), 0.9, 0.01).claim)
    assert found.count("cannot tell") > 250


def test_margin_is_part_of_the_provenance(rows):
    rng = np.random.default_rng(72)
    points = rows("a", 0.3, sd=0.003, rng=rng) + rows("b", 0.3, sd=0.003, rng=rng)
    report = fit_families(points, metric="l1", margin=0.02)
    assert report.provenance["saturation_margin"] == 0.02
    assert report.family("a").saturation.margin == 0.02
    with pytest.raises(ValueError, match="margin must lie between 0 and 1"):
        fit_families(points, metric="l1", margin=5)
