"""Rows that are predicted, warm-up, sizes and growing losses: what a table may slip past the checks."""

import numpy as np
import pytest
from tests.fitting.answers.test_identity import SIZES, ask, refused, table

from transvae_platform.fitting.answers.answer import answer
from transvae_platform.fitting.answers.request import Request
from transvae_platform.fitting.runs.read import TableError, read_runs, runs_of


def law_rows(grows=False):
    rows = []
    for i, n in enumerate(SIZES):
        for j, d in enumerate((1e8, 3e8, 1e9, 3e9, 1e10)):
            loss = 1 + (n / 1e6) ** -0.3 + (d / 1e8) ** -0.3 + 1e-3 * np.sin(7 * i + 3 * j)
            rows.append({"run": f"{i}-{j}", "N": n, "D": d, "status": "finished", "resolution": 256, "k": int(i == 4),
                         "loss": 1 / loss if grows else loss})  # fmt: skip
    return rows


def law(rows, **more):
    return answer(runs_of(rows, "t"), Request("L(N,D)", {"N": "N", "D": "D"}, "loss", bootstrap=0, **more))[0]


@pytest.mark.parametrize(
    ("change", "why"),
    [({"loss": None}, "loss is missing"), ({"status": "failed"}, "its status is 'failed'"),
     ({"loss": -1.0}, "loss is not positive"), ({"N": None}, "N is missing"),
     ({"loss": 1e308}, "loss is 1e+308, beyond")],
)  # fmt: skip
def test_rows_to_be_predicted_are_checked_like_the_fitted(change, why):
    rows = law_rows()
    rows[-1] |= change
    document = law(rows, predict="k == 1")
    assert [d["row"] for d in document["dropped"]] == [25]
    assert f"it was to be predicted, and {why}" in document["dropped"][0]["reason"]
    assert len(document["result"]["predictions"]) == 4


def test_what_is_predicted_leaves_something_to_fit_and_is_not_mixed():
    with pytest.raises(TableError, match="no usable row is left \\(all satisfy N > 0\\)"):
        law(law_rows(), predict="N > 0")
    rows = law_rows()
    rows[-1]["resolution"] = 512
    with pytest.raises(TableError, match="the rows mix resolution"):
        law(rows, predict="k == 1")
    for name, said in (("resolution", "the rows mix resolution"), ("family", "the rows mix 2 families")):
        with pytest.raises(TableError, match=said):  # a law of one is not checked by the other
            law([{**r, name: f"other {r['k'] == 1}"} for r in law_rows()], predict="k == 1")


@pytest.mark.parametrize("axis", ["gpu_hours", "training_flops"])
def test_seeds_are_no_sizes_on_a_measured_axis(axis):
    rows = table(seeds=(0, 1, 2), drop=("size",), **{axis: lambda i, seed: 3.0 ** (i // 3) * (1 + 1e-10 * seed)})
    (document,) = ask(rows, columns={"N": axis})
    assert [len(s["values"]) for s in document["result"]["families"][0]["sizes"]] == [3] * 5
    bare = [{k: v for k, v in r.items() if k != "parameters"} for r in rows]
    assert f"seeds of one size differ in {axis}" in refused(bare, columns={"N": axis})


def test_a_loss_that_grows_with_both_variables_and_one_family_that_grows():
    document = law(law_rows(grows=True))
    assert document["result"]["parameters"] is None
    assert "the loss grows with N (by" in document["result"]["refusals"][0]
    rows = [{**r, "loss": 1 / r["loss"] if r["family"] == "b" else r["loss"]} for r in table(seeds=(0, 1))]
    (mixed,) = ask(rows)
    told = [[r["code"] for r in fit["refusals"]] for fit in mixed["result"]["families"]]
    assert ["rising-family" in codes for codes in told] == [False, True]


def curve(**more):
    return [{"run": "r", "step": s, "images": 1e3 * s, "learning_rate": 1e-3 * min(1.0, s / 500), **more,
             "loss": 1 + 5 * s**-0.5} for s in range(100, 2100, 100)]  # fmt: skip


def test_points_of_warm_up_are_left_out_and_named():
    (document,) = answer(runs_of(curve(), "t"), Request("curve", loss="loss"))
    assert [d["row"] for d in document["dropped"]] == [1, 2, 3, 4]
    assert document["dropped"][0]["reason"] == "its run's learning rate still rises there"
    assert len(document["result"]["forecasts"]) == 1
    unknown = [*curve(warmup_steps=500), *[{**r, "run": "s"} for r in curve(warmup_steps=None)]]
    (document,) = answer(runs_of(unknown, "t"), Request("curve", loss="loss"))
    assert sum("its warmup_steps is missing" in d["reason"] for d in document["dropped"]) == 20


def test_a_curve_without_steps_and_an_empty_status():
    rows = [{k: v for k, v in r.items() if k != "step"} for r in curve()[5:]]
    (document,) = answer(runs_of(rows, "t"), Request("curve", loss="loss"))
    assert document["source"]["rows_fitted"] == 15
    with pytest.raises(TableError, match="are both run 'r'"):
        answer(runs_of([*rows, rows[0]], "t"), Request("curve", loss="loss"))
    assert ask([{**r, "status": None} for r in table()])[0]["source"]["rows_fitted"] == 10


def test_names_with_zeros_before_them_and_groups_of_fractions():
    (document,) = ask(table(run=lambda i, _: "0" * (i + 1)))
    assert document["source"]["rows_fitted"] == 10
    assert "the rows mix code ('1e5' in 5 rows, '100000' in 5 rows)" in refused(
        table(code=lambda i, _: "100000" if i % 2 else "1e5")
    )
    groups = ask(table(share=lambda i, _: 0.25 + i % 2), group=("share",))
    assert [d["group"]["share"] for d in groups] == ["0.25", "1.25"]


@pytest.mark.parametrize(("digits", "why"), [(400, None), (5000, "no whole number as its seed")])
def test_seeds_of_many_digits(digits, why):
    rows = table(seed=lambda i, _: str(i + 1) + "7" * digits)
    if why is None:
        assert ask(rows)[0]["source"]["rows_fitted"] == 10
    else:
        assert why in refused(rows)


def test_numbers_that_no_sum_of_squares_holds():
    assert "beyond 1e-100 to 1e+100" in refused([{**r, "loss": 1e308} for r in table()])


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_blank_lines_are_counted(tmp_path, name):
    text = {"a.csv": "n,loss\n1,2\n\n\n2,3\n", "a.jsonl": '\n{"n": 1}\n\n\n{"n": 2}\n'}[name]
    (tmp_path / name).write_text(text)
    assert read_runs(tmp_path / name).numbers.tolist() == [2, 5]


def test_a_deep_line_is_no_table(tmp_path):
    (tmp_path / "deep.jsonl").write_text('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    with pytest.raises(TableError, match="is not a jsonl file"):
        read_runs(tmp_path / "deep.jsonl")
