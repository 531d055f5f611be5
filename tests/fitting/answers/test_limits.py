"""Laws of several variables decline the same things as L(N): floors that reach 0, and predictions far away."""

import numpy as np
import pytest

from transvae_platform.fitting.answers.answer import answer
from transvae_platform.fitting.answers.request import Request
from transvae_platform.fitting.runs.read import runs_of


def table(E, noise, n=80):
    rng = np.random.default_rng(3)
    N, D = np.geomspace(1e6, 1e9, 6)[rng.integers(0, 6, n)], np.geomspace(1e7, 1e10, 10)[rng.integers(0, 10, n)]
    loss = (E + 40 * N**-0.3 + 90 * D**-0.3) * (1 + noise * rng.standard_normal(n))
    return [{"n": a, "d": b, "loss": c} for a, b, c in zip(N, D, loss, strict=True)]


def ask(rows, **more):
    return answer(runs_of(rows, "t"), Request("L(N,D)", {"N": "n", "D": "d"}, "loss", bootstrap=300, **more))[0]


def test_a_floor_whose_interval_reaches_zero_is_only_bounded():
    result = ask(table(0.01, 0.1))["result"]
    low, high = result["bootstrap"]["intervals"]["E"]
    assert low == 0
    assert any(s.startswith(f"E: the interval for E reaches 0, so only E <= {high:.3g}") for s in result["refusals"])
    sound = ask(table(1.0, 0.01))["result"]
    assert sound["bootstrap"]["intervals"]["E"][0] > 0.9
    assert sound["refusals"] == []


def test_a_term_that_vanishes_in_resamples_has_no_interval():
    rows = [{**r, "loss": 1 + 40 * r["n"] ** -0.3 + 0.3 * np.sin(99 * i)} for i, r in enumerate(table(1.0, 0.0))]
    result = ask(rows)["result"]
    vanished = [s for s in result["refusals"] if "vanishes in resamples" in s]
    assert vanished
    assert result["bootstrap"]["intervals"][vanished[0].split(":")[0]] is None


@pytest.mark.parametrize(
    ("times", "far", "said"),
    [
        (3, False, None),
        (6, False, "predictions end at 4 times"),
        (6, True, "6.0 times the largest N"),
        (31000, True, "predictions end at 10 times"),
        (1e-5, True, "times below the smallest"),
    ],
)
def test_predictions_end_where_those_of_sizes_end(times, far, said):
    rows = [*table(1.0, 0.01), {"n": times * 1e9, "d": 1e9, "loss": 1.2}]
    (cell,) = ask(rows, predict=f"n == {times * 1e9!r}", far=far)["result"]["predictions"]
    told = cell["refusal"] or cell["warning"]
    assert (told is None) if said is None else said in told
    assert (cell["predicted"] is None) == (cell["refusal"] is not None)
    assert ("the back-test" in told) if cell["warning"] else True


def test_no_bound_is_read_from_a_floor_that_all_resamples_lose():
    """The optimum of every resample lies at E = 0: that is where they end, not how large E may be."""
    result = ask([{**r, "loss": r["loss"] * (1 - 0.06 * np.log10(r["n"] / 1e6))} for r in table(0.0, 0.01)])["result"]
    assert result["bootstrap"]["intervals"]["E"] is None
    assert "E: its term vanishes in resamples of the runs, so it has no interval" in " ".join(result["refusals"])
    assert "only E <=" not in " ".join(result["refusals"][1:])


@pytest.mark.parametrize(("scatter", "told"), [(0.02, False), (0.5, True)])
def test_variables_that_rise_together_are_not_told_apart(scatter, told):
    rng = np.random.default_rng(0)
    n = np.geomspace(1e7, 1e10, 40)
    d = 20 * n * np.exp(scatter * rng.standard_normal(40))
    loss = (1.8 + 480 * n**-0.34 + 2000 * d**-0.37) * np.exp(0.001 * rng.standard_normal(40))
    result = ask([{"n": a, "d": b, "loss": c} for a, b, c in zip(n, d, loss, strict=True)])["result"]
    assert (result["parameters"] is not None) == told
    assert any("N and D rise together, so the terms of A and B" in s for s in result["refusals"]) != told


def test_a_single_compute_is_no_mirror():
    """N and D = C / 6N go opposite ways: one term falls where the other rises."""
    n = np.geomspace(1e7, 1e10, 40)
    d = 1e20 / (6 * n)
    rows = [{"n": a, "d": b, "loss": 1.8 + 480 * a**-0.34 + 2000 * b**-0.37} for a, b in zip(n, d, strict=True)]
    assert ask(rows)["result"]["parameters"]["alpha"] == pytest.approx(0.34, rel=1e-3)


def test_where_nothing_can_be_held_out_that_is_said():
    result = ask([r for r in table(1.0, 0.01) if r["n"] > 1e7])["result"]
    assert result["back_test"] is None
    (said,) = [s for s in result["refusals"] if "held out" in s]
    assert "because without N >= 1e+09 there would be 3 distinct N, and" in said
