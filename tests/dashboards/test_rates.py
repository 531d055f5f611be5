"""The page of a calibration: every rate, the best of each size, what was ended."""

import pytest

from transvae_dashboards.page import render

RATES = [1e-3, 2e-3, 4e-3]


@pytest.fixture
def sweep(write_study):
    study = write_study({"transvae": "TB", "cnn": "T"}, calibration={"learning_rates": RATES})
    study.submit()
    return study


def test_page_names_best_rates_and_what_was_ended(sweep):
    for trial in sweep.trials.values():
        if (trial.label, trial.recipe.learning_rate) == ("cnn-T-lr-0.004", 4e-3):
            sweep.run(trial, until=10, failed='loss <b>nan</b> & "worse"')
        else:
            sweep.run(trial)
    page = render(sweep.state())
    assert page.count('id="chart-rates-') == 2
    assert "T to B: " in page
    assert 'title="loss &lt;b&gt;nan&lt;/b&gt; &amp; &quot;worse&quot;"' in page
    assert "Scaling with parameters" not in page, "a calibration has no scaling law"


def test_page_before_anything_has_finished(sweep):
    assert "Nothing to draw yet: this needs a finished trial." in render(sweep.state())
