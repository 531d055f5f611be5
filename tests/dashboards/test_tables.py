"""The tidy table, and which of its rows are fitted."""

import json
import subprocess
import sys

import pytest

from transvae_dashboards.laws import cautions, fit_study, why_excluded
from transvae_dashboards.tables import SIZES, study_table


def test_rows_stand_in_the_fixed_order(whole):
    rows = study_table(whole.state())
    assert [(row.family, row.size) for row in rows] == [
        *(("transvae", size) for size in "TBLHG"), *(("cnn", size) for size in "TBLHG"), ("vit", "T"), ("vit", "G"),
        ("swin", "T"), ("swin", "B"), ("swin", "L"),
    ]  # fmt: skip
    assert list(SIZES[:5]) == list("TBLHG")


def test_rows_say_what_the_journals_say(whole):
    state = whole.state()
    rows = {row.id: row for row in study_table(state)}
    for trial in state.trials.values():
        row, last = rows[trial.trial.id], trial.validation[max(trial.validation)]["metrics"]
        assert (row.psnr, row.ssim, row.val_l1, row.val_mse) == tuple(
            last[key] for key in ("val/psnr", "val/ssim", "val/l1", "val/mse")
        )
        assert (row.state, row.steps_done, row.attempts) == (trial.state, trial.step, trial.attempts)
        assert row.training_flops == trial.cost["training_flops"] * 16 * 400
        assert json.loads(json.dumps(row.as_dict())) == row.as_dict()
    registered = rows[whole.find("transvae", "G").id]
    assert registered.uri == "models:/demo.transvae-G/1"
    assert rows[whole.find("transvae", "H").id].attempts == 2


def test_only_finished_base_trials_are_fitted(write_study):
    study = write_study({"cnn": "TBL"}, grid__variants={"base": {}, "plain": {"stage_attention": False}})
    study.submit()
    study.run(study.find("cnn", "T"))
    study.run(study.find("cnn", "T", variant="plain"))
    study.run(study.find("cnn", "B"), until=200, failed="out of memory")
    study.run(study.find("cnn", "L"), until=100)
    rows = {(row.size, row.variant): row for row in study_table(study.state())}
    assert why_excluded(rows["T", "base"]) is None
    assert why_excluded(rows["B", "base"]) == "failed at step 200 of 400: out of memory"
    assert why_excluded(rows["L", "base"]) == "not finished: step 100 of 400"
    assert why_excluded(rows["B", "plain"]) == "variant 'plain' is another model than the family's base"
    report = fit_study(study.state())["parameters"]
    assert [size.size for size in report.family("cnn").sizes] == ["T"]
    assert len(report.excluded) == 5


def test_fits_use_parameters_and_training_flops(whole):
    fits = fit_study(whole.state())
    rows = {row.size: row for row in study_table(whole.state()) if row.family == "transvae"}
    for x_name, report in fits.items():
        fit = report.family("transvae")
        assert [size.x for size in fit.sizes] == [getattr(rows[size], x_name) for size in "TBLHG"]
        assert [size.mean for size in fit.sizes] == pytest.approx([rows[size].val_l1 for size in "TBLHG"])
    assert fits["parameters"].family("transvae").alpha == pytest.approx(0.32, abs=0.12)


def test_unequal_training_lengths_are_pointed_out(write_study):
    study = write_study({"cnn": "TB"}, recipe__overrides={"cnn-B": {"steps": 200}})
    study.submit()
    study.run_all()
    assert "between 3,200 and 6,400 images" in cautions(study.state())[0]


def test_a_trial_that_diverged_is_excluded_by_its_reason_and_a_guarded_one_is_pointed_out(write_study):
    study = write_study({"cnn": "TBL"})
    study.submit()
    study.run(study.find("cnn", "T"), rewound=200)
    study.run(study.find("cnn", "B"), until=200, failed="5 bad steps in a row by step 230; this is after 2 rewinds")
    study.run(study.find("cnn", "L"))
    state = study.state()
    for report in fit_study(state).values():
        assert [size.size for size in report.family("cnn").sizes] == ["T", "L"]
        (excluded,) = report.excluded
        assert (excluded.point.size, excluded.reason) == (
            "B", "failed at step 200 of 400: 5 bad steps in a row by step 230; this is after 2 rewinds",
        )  # fmt: skip
    (caution,) = cautions(state)
    assert caution.endswith("to a checkpoint: cnn-T seed 0 (3 skipped, 1 taken back).")


def test_table_and_fits_need_no_heavy_library():
    code = (
        "import sys, transvae_dashboards.tables, transvae_dashboards.laws;"
        "print([m for m in ('torch', 'ray', 'mlflow', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
