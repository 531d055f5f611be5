"""Comparisons: right when the difference is real, 'cannot tell' when it is not, and the gain contrast is sharper."""

from itertools import combinations

import numpy as np
import pytest

from transvae_platform.fitting import Point, fit_families
from transvae_platform.fitting.compare import holm


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_gain_contrast_decides_where_alpha_cannot(rows):
    rng = np.random.default_rng(30)
    alphas = {"a": 0.30, "b": 0.20, "c": 0.30, "d": 0.20}
    gain_right = alpha_right = false_claims = 0
    studies = 25
    for _ in range(studies):
        points = [p for f, alpha in alphas.items() for p in rows(f, alpha, sd=0.005, tau=0.005, rng=rng)]
        report = fit_families(points, metric="l1")
        assert [(c.first, c.second) for c in report.gain_contrasts] == list(combinations("abcd", 2))
        for contrast in report.gain_contrasts:
            truth = alphas[contrast.first] - alphas[contrast.second]
            if truth == 0:
                false_claims += "cannot tell" not in contrast.answer
            else:
                better, worse = (contrast.first, contrast.second)[:: 1 if truth > 0 else -1]
                gain_right += f"{better} improves more with parameters than {worse}" in contrast.answer
        alpha_right += sum("larger exponent" in c.answer for c in report.alpha_contrasts)
    assert gain_right >= 0.9 * 4 * studies
    assert alpha_right <= 0.7 * gain_right
    assert false_claims <= 0.2 * 2 * studies


def test_alpha_contrast_with_little_noise(rows):
    rng = np.random.default_rng(31)
    points = rows("steep", 0.4, sd=0.0005, rng=rng) + rows("shallow", 0.2, sd=0.0005, rng=rng)
    (contrast,) = fit_families(points, metric="l1").alpha_contrasts
    assert contrast.answer.startswith("steep has a larger exponent than shallow")
    assert contrast.interval is not None
    assert contrast.interval.lower < -0.2 < contrast.interval.upper < 0


def test_interval_of_the_difference_excludes_zero_exactly_when_p_is_small(rows):
    rng = np.random.default_rng(32)
    seen = set()
    for _ in range(30):
        points = rows("a", 0.3, sd=0.004, rng=rng) + rows("b", 0.22, sd=0.004, rng=rng)
        (contrast,) = fit_families(points, metric="l1").alpha_contrasts
        if contrast.p_value is None or 0.09 < contrast.p_value < 0.11:
            continue  # the ends of the difference come from a node grid
        excludes = not contrast.interval.lower <= 0 <= contrast.interval.upper
        assert excludes == (contrast.p_value < 0.1)
        seen.add(excludes)
    assert seen == {True, False}


def test_families_of_different_scatter_are_compared_with_their_own_variances(rows):
    rng = np.random.default_rng(33)
    report = fit_families(rows("a", 0.3, sd=0.0002, rng=rng) + rows("b", 0.2, sd=0.01, rng=rng), metric="l1")
    assert [f.variance.kind for f in report.families] == ["own", "own"]
    (gain,), (alpha,) = report.gain_contrasts, report.alpha_contrasts
    assert gain.interval.variance == alpha.interval.variance == "own"
    assert alpha.interval.df == 2
    # nearly all doubt is b's: the difference is about as unsure as its exponent
    b = report.family("b").alpha_interval
    assert alpha.interval.upper - alpha.interval.lower == pytest.approx(b.upper - b.lower, rel=0.1)


def test_claims_about_exponents_keep_their_level_where_scatter_differs(rows):
    rng, claims, tested = np.random.default_rng(35), 0, 0
    for _ in range(60):
        points = [p for f, sd in zip("abc", (0.002, 0.002, 0.008), strict=True) for p in rows(f, 0.3, sd=sd, rng=rng)]
        raw = [c.p_value for c in fit_families(points, metric="l1").alpha_contrasts if c.p_value is not None]
        claims, tested = claims + sum(p < 0.1 for p in raw), tested + len(raw)
    assert tested > 90
    assert claims / tested < 0.17


def test_alphas_are_not_compared_when_an_end_is_open(rows, ladder):
    rng = np.random.default_rng(33)
    step = [Point("step", s, 0, x, v) for (s, x), v in zip(ladder.items(), (1, 0.9, 0.902, 0.9, 0.899), strict=True)]
    report = fit_families(step + rows("a", 0.3, sd=0.002, rng=rng), metric="l1")
    assert "of step is unbounded" in report.alpha_contrasts[0].answer


def test_ranges_that_hardly_overlap_are_not_compared(rows):
    rng = np.random.default_rng(34)
    far = [Point("far", p.size, p.seed, 30 * p.x, p.value) for p in rows("far", 0.3, sd=0.005, rng=rng)]
    report = fit_families(rows("near", 0.2, sd=0.005, rng=rng) + far, metric="l1")
    assert "overlap too little" in report.gain_contrasts[0].answer
