"""The token-multiplier form on the published five models, and what it predicts of the large ones."""

import csv

import numpy as np
import pytest
from tests.fitting.public import DATA, expected, needs_public_data

from transvae_platform.fitting.laws.fit import fit_law
from transvae_platform.fitting.laws.forms import GADRE
from transvae_platform.fitting.laws.models import Robust

SMALL = ("d=96_l=8_h=4", "d=512_l=8_h=4", "d=576_l=24_h=8", "d=1024_l=24_h=8")


def columns(rows):
    return {
        "N": np.array([float(r["params"]) for r in rows]),
        "M": np.array([20 * float(r["multiplier"]) for r in rows]),
    }


@needs_public_data
@pytest.mark.parametrize("trained_on", ["rpj", "c4_original", "rw_original"])
def test_published_errors(trained_on):
    with (DATA / "gadre" / "gadre_models.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["dataset"] == trained_on]
    one = [r for r in rows if float(r["multiplier"]) == 1 and r["model"].removesuffix(".json") in SMALL]
    five = one + [r for r in rows if float(r["multiplier"]) == 16 and r["model"].startswith(SMALL[0])]
    loss = np.array([float(r["loss_c4_val"]) for r in five])
    fit, want = fit_law(GADRE, columns(five), loss, Robust(np.inf, "linear")), expected("gadre")
    assert fit.converged
    assert 2 * fit.objective == pytest.approx(want["reproduced"][trained_on]["sse"], rel=1e-9)
    assert fit.parameters["b"] == pytest.approx(want["reproduced"][trained_on]["b"], abs=1e-6)
    errors = {}
    for r in rows:
        if r["model"].startswith("open_lm"):
            measured = float(r["loss_c4_val"])
            name = f"{r['model'].removesuffix('.json')}_M{20 * float(r['multiplier']):g}"
            errors[name] = 100 * abs(float(fit.predict(columns([r]))[0]) / measured - 1)
    assert errors == pytest.approx(want["reproduced"][trained_on]["rel_err_pct"], abs=5e-5)
    if trained_on == "rpj":
        for name, published in want["published_rpj_rel_err_pct"].items():
            assert round(errors[name], 4) == published
