"""A forecast comes with the errors of the same forecast made earlier, and is refused where the curve changes."""

import numpy as np
import pytest

from transvae_platform.fitting.curve import Forecast, extrapolate
from transvae_platform.fitting.refusals import Refusal


def curve(noise=0.0, points=40, seed=1):
    images = np.linspace(2e4, 8e5, points)
    rng = np.random.default_rng(seed)
    return images, (0.1 + 3 * images**-0.3) * (1 + noise * rng.standard_normal(points))


def ask(images, loss, to=1.6e6, rate=None, phase=None):
    rate = np.full(len(images), 1e-4) if rate is None else rate
    return extrapolate("r", images, loss, to, learning_rate=rate, phase=phase)


def test_a_power_law_goes_on():
    forecast = ask(*curve())
    assert isinstance(forecast, Forecast)
    assert forecast.value == pytest.approx(0.1 + 3 * 1.6e6**-0.3, rel=1e-6)
    assert forecast.margin < 1e-4
    assert len(forecast.back_tests) == 5
    assert forecast.beats_baselines


def test_the_margin_covers_the_truth_as_often_as_its_back_tests_suggest():
    hits = 0
    for seed in range(20):
        forecast = ask(*curve(0.01, seed=seed))
        hits += abs(forecast.value / (0.1 + 3 * 1.6e6**-0.3) - 1) <= forecast.margin
    assert hits >= 15  # the largest of five related errors; no confidence level is claimed


def test_naive_rivals_win_where_the_curve_is_flat():
    images, _ = curve()
    assert not ask(images, np.full(40, 0.2)).beats_baselines


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"phase": ["stage 1"] * 20 + ["stage 2"] * 20}, "phase-change"),
        ({"rate": np.linspace(1e-4, 0, 40)}, "changing-rate"),
        ({"to": 4e6}, "extrapolation"),
    ],
)
def test_refusals(change, code):
    answer = ask(*curve(), **change)
    assert isinstance(answer, Refusal)
    assert answer.code == code


def test_few_points_and_no_learning_rate():
    images, loss = curve()
    assert ask(images[:7], loss[:7], to=3e5).code == "too-few-points"
    assert extrapolate("r", images, loss, 1e6, learning_rate=None, phase=None).code == "no-learning-rate"


def test_what_cannot_be_forecast_is_refused():
    images, loss = curve(0.003)
    rate = np.full(40, 1e-4)
    rate[3] = np.nan
    assert ask(images, loss, rate=rate).code == "no-learning-rate"
    assert ask(images, loss[::-1]).code == "rising-curve"
    assert ask(images, loss, to=5e5).code == "not-ahead"
    few = ask(images[:8], loss[:8], to=2 * images[7])
    assert few.code == "no-back-test"
    assert "at twice as many points" in few.lifted_by or "points" in few.lifted_by
