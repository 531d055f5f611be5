"""The public sets print their published numbers, through the same requests as `transvae fit --preset`."""

import json

import pytest
from tests.fitting.public import DATA, expected, needs_public_data

from transvae_platform.fitting.answers.answer import answer
from transvae_platform.fitting.published import PUBLISHED
from transvae_platform.fitting.runs.read import read_runs

pytestmark = needs_public_data


def results(name):
    published = PUBLISHED[name]
    (path,) = DATA.glob(f"*/{published.file}")
    documents = answer(read_runs(path), published.request)
    assert json.loads(json.dumps(documents, allow_nan=False)) == documents
    return documents


def test_chinchilla():
    (document,) = results("chinchilla")
    want, result = expected("chinchilla_epoch"), document["result"]
    assert document["source"]["rows_fitted"] == want["n_kept"]
    assert result["parameters"] == pytest.approx(
        {k: v for k, v in want["reproduced_global_optimum_huber_1e-3"].items() if k != "objective"}, rel=1e-6
    )
    lad = want["published_point_estimate_is_LAD"]
    assert result["least_absolute"]["sum_abs_residual"] == pytest.approx(lad["sum_abs_residual"], rel=1e-8)
    for name in result["parameters"]:
        assert result["least_absolute"]["parameters"][name] == pytest.approx(lad[name], rel=5e-6)
        assert result["bootstrap"]["standard_errors"][name] == pytest.approx(
            want["published_se_4000_bootstraps_seed42"][name], rel=2e-3
        )
        assert result["bootstrap"]["intervals"][name] == pytest.approx(want["published_ci95"][name], rel=4e-3)
    assert result["proof"]["converged"]
    assert result["back_test"]["beats_baselines"]


def test_gadre():
    want = expected("gadre")["reproduced"]
    for document in results("gadre"):
        cells = document["result"]["predictions"]
        errors = {c["name"].split("-", 1)[1]: abs(100 * c["error"]) for c in cells}
        published = want[document["group"]["dataset"]]["rel_err_pct"]
        assert sorted(errors.values()) == pytest.approx(sorted(published.values()), abs=5e-5)
        assert "a bootstrap of so few runs" in document["result"]["refusals"][0]


def test_porian():
    want = expected("porian")["published_and_reproduced_n_exponent_basic"]
    documents = results("porian")
    assert [d["result"]["parameters"]["a"] for d in documents] == pytest.approx(want, abs=5e-7)
    assert [len(d["dropped"]) for d in documents] == [0, 1, 0, 0, 0]
    assert "n is missing" in documents[1]["dropped"][0]["reason"]
    assert not any("r2" in key.lower() for d in documents for key in d["result"])


def test_isoflop_is_near_the_published_exponents_and_says_what_it_is():
    want = expected("porian")["published_and_reproduced_n_exponent_basic"]
    for document, exponent in zip(results("porian-isoflop"), want, strict=True):
        result = document["result"]
        assert result["parameters"]["a"] == pytest.approx(exponent, abs=0.04)
        assert abs(result["bias"]) < 0.01
        assert "a view, not a headline" in result["note"]


@pytest.mark.parametrize("name", ["imagenet1k", "mscoco_captions"])
def test_openclip(name):
    (document,) = results({"imagenet1k": "openclip-imagenet", "mscoco_captions": "openclip-coco"}[name])
    want, result = expected("openclip"), document["result"]
    mean = want["published_and_reproduced_MAE_points"][name] / 100
    assert result["mean_absolute_error"] == pytest.approx(mean, abs=1e-14)
    assert list(result["log10"].values()) == pytest.approx(want["reproduced_line_slope_intercept"][name], abs=5e-9)
    assert len(result["predictions"]) == 11


def test_openclip_running_envelope():
    from dataclasses import replace

    for data, cells in expected("openclip")["reproduced_envelope_below_2e12_gmacs_imagenet_top1_pct"].items():
        request = replace(
            PUBLISHED["openclip-imagenet"].request, bins=None, predict="gmacs_total >= 2e12", predict_columns={},
            where=f"downstream_dataset == 'imagenet1k' and upstream_dataset == '{data}'",
        )  # fmt: skip
        (document,) = answer(read_runs(DATA / "openclip" / "zeroshot_results.csv"), request)
        found = {c["name"].replace(" ", "_"): 100 * (1 - c["predicted"]) for c in document["result"]["predictions"]}
        assert found == pytest.approx({name: cell["predicted"] for name, cell in cells.items()}, abs=0.006)
