"""Learning rate and averaging are functions of the step."""

import pytest

from transvae_platform.study.recipe_spec import TrialRecipe
from transvae_platform.training.schedule import ema_decay, learning_rate


def recipe(**changes):
    return TrialRecipe(**{"steps": 100, "batch_size": 1, "learning_rate": 0.8, "warmup_steps": 4, **changes})


def test_warm_up_reaches_the_peak_and_stays():
    assert [learning_rate(recipe(), step) for step in (0, 1, 2, 3, 4, 99)] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 0.8, 0.8]
    )
    assert learning_rate(recipe(warmup_steps=0), 0) == 0.8


def test_cosine_falls_to_zero_after_the_last_step():
    cosine = recipe(schedule="cosine")
    assert learning_rate(cosine, 3) == pytest.approx(0.8)
    assert learning_rate(cosine, 4) == pytest.approx(0.8)
    assert learning_rate(cosine, 52) == pytest.approx(0.4)
    assert 0 < learning_rate(cosine, 99) < 0.001
    assert learning_rate(cosine, 100) == pytest.approx(0)
    rates = [learning_rate(cosine, step) for step in range(4, 101)]
    assert rates == sorted(rates, reverse=True)


def test_average_follows_closely_at_first_and_slowly_later():
    assert ema_decay(recipe(ema_decay=0.999), 0) == pytest.approx(0.1)
    assert ema_decay(recipe(ema_decay=0.999), 90) == pytest.approx(0.91)
    assert ema_decay(recipe(ema_decay=0.999), 10**6) == 0.999
    assert ema_decay(recipe(ema_decay=0.0), 5) == 0.0
