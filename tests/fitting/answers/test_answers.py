"""Documents hold what repeats the fit; several metrics share one correction; curves and user forms are answered."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.fitting.laws.test_forms import own_form

from transvae_platform.fitting.answers.answer import answer
from transvae_platform.fitting.answers.request import Request
from transvae_platform.fitting.laws import fit
from transvae_platform.fitting.laws.forms import register
from transvae_platform.fitting.laws.start import starts
from transvae_platform.fitting.runs.read import runs_of


def big_table(rng, runs=60, points=4):
    """Runs with curves: the points of one run share its luck."""
    rows = []
    for run in range(runs):
        n, luck = 10 ** rng.uniform(7, 10), 0.01 * rng.standard_normal()
        for k in range(points):
            d = 10 ** rng.uniform(9, 11.5)
            loss = (1.8 + 480 * n**-0.35 + 2100 * d**-0.37) * np.exp(luck)
            rows.append({"run": run, "step": k, "n": n, "d": d, "loss": loss})
    return rows


LAW = Request("L(N,D)", {"N": "n", "D": "d"}, "loss", bootstrap=400)


def test_a_document_repeats_its_own_fit():
    runs = runs_of(big_table(np.random.default_rng(1)), "t")
    (first,) = answer(runs, LAW)
    asked = dict(first["request"])
    again = Request(**{**asked, "delta": float("inf") if asked["delta"] == "inf" else asked["delta"],
                       "group": tuple(asked["group"])})  # fmt: skip
    assert answer(runs, again) == [first]
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    proof = first["result"]["proof"]
    assert proof["start_grid"] == 16
    for key in ("delta", "reduction", "objective", "gradient_max", "condition", "starts", "starts_agreeing", "ranges"):
        assert proof[key] is not None
    assert {"file_sha256", "fitted_sha256", "row_numbers"} <= set(first["source"])
    assert {"python", "numpy", "scipy"} == set(first["versions"])


def test_the_bootstrap_draws_runs_and_not_checkpoints():
    """Points of one run share its luck: drawing them one by one claims far too much."""
    rows = big_table(np.random.default_rng(2))
    (clustered,) = answer(runs_of(rows, "t"), LAW)
    (single,) = answer(runs_of([{**r, "run": i} for i, r in enumerate(rows)], "t"), LAW)
    error, too_small = (d["result"]["bootstrap"]["standard_errors"]["E"] for d in (clustered, single))
    assert clustered["result"]["bootstrap"]["runs"] == 60
    assert error > 1.3 * too_small


def test_few_runs_get_no_bootstrap():
    (document,) = answer(runs_of(big_table(np.random.default_rng(3), runs=20), "t"), LAW)
    assert document["result"]["bootstrap"] is None
    assert "20 runs: a bootstrap of so few runs covers far less than it claims" in document["result"]["refusals"][0]


def test_seeds_of_one_place_are_no_places():
    """Ten sizes of three seeds are thirty runs and ten misfits: their bootstrap covered 45 to 73 % of 90 (measured)."""
    rng, sizes = np.random.default_rng(4), np.repeat(np.geomspace(1e7, 1e10, 10), 3)
    rows = [{"size": f"{n:g}", "seed": i % 3, "n": n, "loss": (n / 1e7) ** -0.1 * np.exp(0.005 * rng.standard_normal())}
            for i, n in enumerate(sizes)]  # fmt: skip
    (document,) = answer(runs_of(rows, "t"), Request("power-law", {"N": "n"}, "loss", bootstrap=100))
    assert document["result"]["bootstrap"] is None
    assert "30 runs at 10 distinct values of N: a bootstrap of so few places" in document["result"]["refusals"][0]


def test_points_of_a_decaying_rate_are_no_law_of_data():
    rows = big_table(np.random.default_rng(6))
    constant = [{**r, "learning_rate": 1e-4} for r in rows]
    decaying = [{**r, "learning_rate": 1e-4 / (1 + r["step"])} for r in rows]
    said = [answer(runs_of(r, "t"), replace(LAW, bootstrap=0))[0]["result"]["refusals"] for r in (constant, decaying)]
    assert ["exponent is one of steps" in s for s in said[0]] == [True]
    assert "changes within 60 runs" in said[1][1]


def test_a_loss_that_does_not_fall_with_data_says_so():
    rows = [{**r, "loss": 1.8 + 480 * r["n"] ** -0.35 * (1 + 1e-3 * (i % 3))} for i, r in
            enumerate(big_table(np.random.default_rng(4)))]  # fmt: skip
    rows = [{**r, "loss": r["loss"] + 1e-4 * np.log(r["d"])} for r in rows]
    (document,) = answer(runs_of(rows, "t"), replace(LAW, delta=float("inf")))
    assert document["result"]["parameters"] is None
    assert any(s.startswith("beta: ") and "does not fall" in s for s in document["result"]["refusals"])


def test_several_metrics_share_one_correction(rows):
    request = Request(columns={"N": "parameters"}, loss="val/l1")
    (alone,) = answer(runs_of(rows, "t"), request)
    both = answer(runs_of(rows, "t"), request, ["val/mse"])
    assert [d["request"]["loss"] for d in both] == ["val/l1", "val/mse"]
    before, after = (d["result"]["gain_contrasts"][0] for d in (alone, both[0]))
    assert before["p_value"] == after["p_value"]
    assert after["p_holm"] == pytest.approx(2 * after["p_value"])
    assert before["p_holm"] == pytest.approx(before["p_value"])
    assert "val/l1, val/mse" in both[0]["result"]["provenance"]["multiplicity"]


def test_every_axis_is_a_column(rows):
    for axis in ("parameters", "training_flops"):
        (document,) = answer(runs_of(rows, "t"), Request(columns={"N": axis}))
        assert document["result"]["x_name"] == axis
        assert document["result"]["conditions"][0]["learning_rate"] == 1e-4


def test_predictions_further_out_carry_a_warning(rows):
    largest = max(r["parameters"] for r in rows)
    at = (2 * largest, 6 * largest, 20 * largest)
    near, far, refused = answer(runs_of(rows, "t"), Request(at=at, far=True))[0]["result"]["predictions"][:3]
    assert (near["warning"], near["refusal"]) == (None, None)
    assert "6.0 times the largest size, where no interval has been checked; the back-test" in far["warning"]
    assert "predictions end at 10 times" in refused["refusal"]
    strict = answer(runs_of(rows, "t"), Request(at=at))[0]["result"]["predictions"][1]
    assert "predictions end at 4 times" in strict["refusal"]


def test_a_registered_form_is_answered_like_any_other():
    register(own_form(name="mine-answered"))
    columns = {"N": np.geomspace(1e7, 1e10, 40)}
    rows = [{"n": n, "loss": 1.5 + 0.3 * (n / 1e9) ** -0.3} for n in columns["N"]]
    (document,) = answer(runs_of(rows, "t"), Request("mine-answered", {"N": "n"}, "loss", bootstrap=100))
    assert document["result"]["parameters"] == pytest.approx({"E": 1.5, "A": 0.3, "alpha": 0.3}, rel=1e-4)
    assert document["result"]["bootstrap"]["failed"] == 0
    assert "drawn in the form's bounds" in document["result"]["proof"]["start"]
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "starts", lambda model, weights, seed: drawn.append(seed) or starts(model, weights, seed))
        answer(runs_of(rows, "t"), Request("mine-answered", {"N": "n"}, "loss", bootstrap=0, seed=7))
    assert set(drawn) == {7}, "the sweep and the back-test say so too"


def test_a_document_of_size_means_claims_no_choice_that_was_not_read(rows):
    (document,) = answer(runs_of(rows, "t"), Request())
    assert not {"residuals", "bins"} & set(document["request"])
    assert all(1 < fit["condition"] < 1e9 for fit in document["result"]["families"])


def test_curves_of_a_study_are_refused_where_the_rate_changes(rows):
    (document,) = answer(runs_of(rows, "t"), Request("curve"))
    assert "2 points cannot carry a fit" in document["result"]["refusals"][0]
    for r in rows:
        r["learning_rate"] = 1e-4 * (2100 - r["step"]) / 2000
    (document,) = answer(runs_of(rows, "t"), Request("curve"))
    assert len(document["result"]["refusals"]) == 30
    assert "has another curve" in document["result"]["refusals"][0]
