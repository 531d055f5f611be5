"""Every kind of bad table is named, with the way out; nothing disappears without a word."""

import pytest

from transvae_platform.fitting.answers.answer import answer
from transvae_platform.fitting.answers.request import Request
from transvae_platform.fitting.runs.read import TableError, runs_of

LAST = 2  # the index of the first run's last point


def ask(rows, **request):
    return answer(runs_of(rows, "t.csv", lines=range(2, len(rows) + 2)), Request(**request))


def refused(rows, **request):
    with pytest.raises(TableError) as error:
        ask(rows, **request)
    return str(error.value)


def test_the_last_point_of_each_run_is_fitted_and_every_other_named(rows):
    (document,) = ask(rows)
    reasons = {d["row"]: d["reason"] for d in document["dropped"]}
    assert document["source"]["rows_fitted"] == 30
    assert len(reasons) == 60
    assert reasons[2] == "it lies inside warm-up"
    assert reasons[3] == "an earlier point of its run's curve"


def test_fewer_sizes_than_the_form_needs(rows):
    few = [r for r in rows if r["size"] in "TBL"]
    (document,) = ask(few)
    assert document["result"]["families"][0]["verdict"].startswith("cannot tell: 3 usable sizes")
    (law,) = ask([r for r in few if r["family"] == "cnn"], form="L(N,D)")
    assert law["result"]["parameters"] is None
    assert "3 distinct N" in law["result"]["refusals"][0]


def test_one_token_count_gives_no_law_of_data(rows):
    law, _ = ask([r for r in rows if r["step"] == 2000], form="L(N,D)", group=("family",))
    assert law["result"]["parameters"] is None
    assert "1 distinct D" in law["result"]["refusals"][0]


@pytest.mark.parametrize("metric", ["val/psnr", "accuracy", "ssim"])
def test_a_metric_that_grows(rows, metric):
    assert "rises with quality" in refused([{**r, metric: 1.0} for r in rows], loss=metric)


def test_missing_columns(rows):
    assert "no column 'loss' - there are family" in refused(rows, loss="loss")
    bare = [{"n": r["parameters"], "loss": r["val/l1"]} for r in rows]
    assert "needs N - name the column: -c N=COLUMN" in refused(bare, loss="loss")
    assert "is not a column of numbers" in refused(rows, columns={"N": "family"})


@pytest.mark.parametrize(
    ("value", "reason"), [(None, "missing or not finite"), (0.0, "not positive"), (-1.0, "not positive")]
)
def test_a_bad_loss_is_named_with_its_row(rows, value, reason):
    rows[LAST] = {**rows[LAST], "val/l1": value}
    (document,) = ask(rows)
    assert any(d["row"] == LAST + 2 and reason in d["reason"] for d in document["dropped"])


def test_a_run_that_lost_its_last_point_is_not_fitted_at_an_earlier_one(rows):
    """Its earlier point was trained less: fitting it would read missing training as a worse size."""
    rows[LAST] = {**rows[LAST], "val/l1": None}
    (document,) = ask(rows)
    assert document["source"]["rows_fitted"] == 29
    assert any(d["row"] == LAST + 1 for d in document["dropped"])


def test_duplicate_rows_of_one_run_and_step(rows):
    assert "rows 4 and 92 are both run 'cnn T 0' at step 2000" in refused([*rows, rows[LAST]])


@pytest.mark.parametrize(("name", "value"), [("resolution", 512), ("stage", "2"), ("ema", 0.0), ("code", "b"),
                                             ("schedule", "cosine"), ("data", "y"), ("variant", "wide")])  # fmt: skip
def test_mixed_conditions(rows, name, value):
    mixed = [{"stage": "1", "ema": 0.9, "schedule": "constant", "data": "x", "variant": "base", **r} for r in rows]
    mixed[LAST][name] = value
    why = refused(mixed)
    assert f"the rows mix {name}" in why
    assert f'--where "{name} == ' in why


@pytest.mark.parametrize("form", ["power-law", "L(N,D)"])
def test_one_law_through_several_families(rows, form):
    assert "the rows mix 2 families (cnn, transvae)" in refused(rows, form=form)
    assert len(ask(rows, form=form, group=("family",), bootstrap=0)) == 2
    assert ask(rows, form=form, where="family == 'cnn'", bootstrap=0)


def test_unfinished_runs_are_named(rows):
    for r in rows[:3]:
        r["status"] = "failed"
    (document,) = ask(rows)
    assert document["source"]["rows_fitted"] == 29
    assert {d["reason"] for d in document["dropped"] if d["row"] < 5} == {"its status is 'failed'"}


def test_one_seed_only_is_said(rows):
    (document,) = ask([r for r in rows if r["seed"] == 0])
    sentences = [r["sentence"] for fit in document["result"]["families"] for r in fit["refusals"]]
    assert sum("every size has one seed" in s for s in sentences) == 2


def test_runs_of_different_length_are_a_caution(rows):
    rows[LAST] = {**rows[LAST], "images": 4000}
    (document,) = ask(rows)
    assert "differ in images seen (4000 to 1.6e+04)" in document["result"]["cautions"][0]
    (document,) = ask(
        [{k: v for k, v in {**r, "step": r["step"] + (r["size"] == "G")}.items() if k != "images"} for r in rows]
    )
    assert "differ in steps (2000 to 2001)" in document["result"]["cautions"][0]


def test_unknown_forms_and_empty_choices(rows):
    assert "known are L(N), power-law" in refused(rows, form="L(Q)")
    assert "no row satisfies" in refused(rows, where="family == 'mlp'")
    assert "is no condition" in refused(rows, where="parameters")


@pytest.mark.parametrize("name", [" status", "Status", "STATUS "])
def test_a_column_that_is_called_almost_as_it_should(rows, name):
    said = refused([{name if k == "status" else k: v for k, v in r.items()} for r in rows])
    assert f"the column {name!r} would not be read as 'status'" in said


def test_a_condition_on_a_missing_value_leaves_no_row_out_in_silence(rows):
    rows[LAST]["val/l1"], rows[LAST + 3]["family"] = None, ""
    (document,) = ask(rows, where="`val/l1` < 99 and family in ('cnn', 'transvae')")
    assert [d["row"] for d in document["dropped"] if "is missing, so it is unknown" in d["reason"]] == [4, 7]
    for row in rows:
        row["run"], row["note"] = f"{row['family']}{row['size']}{row['seed']}", 1.0 * (row["size"] == "G")
    rows[LAST + 6]["note"] = None
    cnn = {"form": "L(N,D)", "where": "family == 'cnn'"}
    (law,) = ask(rows, predict="note == 1", **cnn)
    assert {d["row"]: d["reason"] for d in law["dropped"]}[10].startswith("a value that 'note == 1' reads is missing")


def test_two_conditions_of_one_run_are_no_duplicates(rows):
    both = [{**r, "ema": ema} for r in rows for ema in (None, 0.999)]
    said = refused(both)
    assert "the rows mix ema" in said
    assert said.endswith('--where "ema == 0.999"')
