"""Redrawn laws scatter about the fitted one along the ridge of E and alpha, and are labelled as no interval."""

import numpy as np

from transvae_platform.fitting import fit_families
from transvae_platform.fitting.picture import parametric_draws


def test_draws_follow_the_ridge(rows):
    rng = np.random.default_rng(95)
    report = fit_families([p for f in "ab" for p in rows(f, 0.3, sd=0.003, rng=rng)], metric="l1")
    fit = report.family("a")
    draws = parametric_draws(fit, seed=1)
    assert "not an interval" in draws["label"]
    assert abs(np.median(draws["alpha"]) / fit.alpha - 1) < 0.15
    assert np.corrcoef(draws["alpha"], draws["E"])[0, 1] > 0.8
    assert parametric_draws(fit, seed=1) == draws != parametric_draws(fit, seed=2)
    assert parametric_draws(fit_families(rows("c", 0.3, sizes="TBL"), metric="l1").family("c"), seed=1) is None
