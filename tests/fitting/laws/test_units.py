"""The unit of the loss changes no answer, and parameters that the points do not determine are not given."""

import numpy as np
import pytest
from tests.fitting.laws.test_forms import own_form

from transvae_platform.fitting.answers.answer import answer
from transvae_platform.fitting.answers.request import Request
from transvae_platform.fitting.laws.fit import fit_law
from transvae_platform.fitting.laws.forms import GADRE, register
from transvae_platform.fitting.laws.models import Robust
from transvae_platform.fitting.runs.read import runs_of


def test_the_unit_of_the_loss_changes_no_linear_fit():
    n = np.array([1e7, 3e7, 1e8, 3e8, 1e9, 2e9])
    columns = {"N": n, "M": np.array([20.0, 320, 20, 80, 20, 20])}
    y = (1.8 + 40 * n**-0.3 + 300 * (columns["M"] * n) ** -0.3) * (1 + 0.003 * np.array([1, -1, 0.5, 1, -2, 1]))
    one, small = (fit_law(GADRE, columns, unit * y, Robust(np.inf, "linear")) for unit in (1.0, 1e-5))
    assert small.converged
    assert small.parameters["b"] == pytest.approx(one.parameters["b"], rel=1e-6)
    assert small.objective == pytest.approx(1e-10 * one.objective, rel=1e-9)


def ask(x, name):
    register(own_form(name=name))
    rng = np.random.default_rng(1)
    rows = [{"n": n, "loss": (1 + (n / 1e9) ** -0.3) * (1 + 0.003 * rng.standard_normal())} for n in x]
    return answer(runs_of(rows, "t"), Request(name, {"N": "n"}, "loss", bootstrap=0))[0]["result"]


def test_a_form_needs_more_distinct_points_than_parameters():
    result = ask([1e8] * 6 + [1e10] * 6, "mine-two")
    assert result["parameters"] is None
    assert "2 distinct points for 3 parameters" in result["refusals"][0]


def test_a_flat_direction_is_no_proof():
    """At nearly equal sizes E, A and alpha trade places along a line that the loss does not see."""
    result = ask(1e9 * (1 + 1e-6 * np.arange(12)), "mine-near")
    assert result["parameters"] is None
    assert "flat" in result["refusals"][0] or "agreeing starts" in result["refusals"][0]
    assert ask(np.repeat(np.geomspace(1e8, 1e10, 5), 3), "mine-wide")["parameters"] is not None
