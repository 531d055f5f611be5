"""Which rows are one run, one condition, one size: decided by exact values, and refused where it cannot be told."""

import numpy as np
import pytest

from transvae_platform.fitting.answers.answer import answer
from transvae_platform.fitting.answers.request import Request
from transvae_platform.fitting.runs.read import TableError, runs_of

SIZES = (1e6, 3e6, 1e7, 3e7, 1e8)


def table(seeds=(0,), drop=(), **more):
    rng, rows = np.random.default_rng(1), []
    for family in "ab":
        for size, x in zip("TBLHG", SIZES, strict=True):
            for seed in seeds:
                row = {"family": family, "size": size, "seed": seed, "parameters": x,
                       "loss": (1 + 1.5 * (x / 1e6) ** -0.3) * (1 + 0.003 * rng.standard_normal())}  # fmt: skip
                row |= {name: value(len(rows), seed) for name, value in more.items()}
                rows.append({name: value for name, value in row.items() if name not in drop})
    return rows


def ask(rows, form="L(N)", **more):
    return answer(runs_of(rows, "t"), Request(form, loss="loss", **more))


def refused(rows, *args, **more):
    with pytest.raises(TableError) as error:
        ask(rows, *args, **more)
    return str(error.value)


def test_values_that_agree_to_six_digits_are_not_the_same():
    assert "the rows mix data ('20260101' in 1 rows" in refused(table(data=lambda i, _: 20260101 + i))
    groups = ask(table(tokens=lambda i, _: 20000001 + i % 2), group=("tokens",))
    assert [d["group"]["tokens"] for d in groups] == ["20000001", "20000002"]
    (document,) = ask(table(run=lambda i, _: 1234567 + i))
    assert document["source"]["rows_fitted"] == 10
    (document,) = ask(table(seeds=(1000001, 1000002)))
    assert [len(s["values"]) for s in document["result"]["families"][0]["sizes"]] == [2] * 5
    (document,) = ask(table(run=lambda i, _: "1_1" if i == 0 else str(11 + i)))
    assert document["source"]["rows_fitted"] == 10


def test_the_choice_that_is_offered_can_be_made():
    rows = table(ema=lambda i, _: 0.9 if i % 5 else 0.5)
    assert '--where "ema == 0.9"' in refused(rows)
    assert ask(rows, where="ema == 0.9")[0]["source"]["rows_fitted"] == 8


@pytest.mark.parametrize("status", ["failed", "diverged", "killed"])
def test_broken_runs_are_in_no_form(status):
    rows = [{**r, "D": 1e9 * 2 ** (i % 5), "status": status if i % 4 == 0 else "running", "family": "a", "seed": i}
            for i, r in enumerate(table(seeds=range(4)))]  # fmt: skip
    (document,) = ask(rows, "L(N,D)", columns={"D": "D"}, bootstrap=0)
    assert document["source"]["rows_fitted"] == 30
    assert {d["reason"] for d in document["dropped"]} == {f"its status is {status!r}"}


def with_steps(rows):
    return [{**r, "step": s, "loss": r["loss"] * (1 + 300 / s)} for r in rows for s in (1000, 2000, 3000)]


def test_checkpoints_are_not_seeds():
    (document,) = ask(with_steps(table(drop=("size", "seed"))))
    assert document["source"]["rows_fitted"] == 10
    assert document["result"]["families"][0]["seed_sd"] is None
    curves = [{"size": f"s{k}", "step": j, "N": 1e6 * 3**k, "D": 1e6 * (j + 1)} for k in range(6) for j in range(20)]
    for i, row in enumerate(curves):
        row["loss"] = 1 + 50 * row["N"] ** -0.3 + 30 * row["D"] ** -0.3 + 1e-3 * np.sin(7 * i)
    (law,) = ask(curves, "L(N,D)", columns={"N": "N", "D": "D"}, bootstrap=100)
    assert law["result"]["runs"] == 6
    assert law["result"]["bootstrap"] is None
    why = refused([{"x": r["parameters"] * r["step"] ** 1.1, "step": r["step"], "loss": r["loss"]} for r in
                   with_steps(table()[:5])], "power-law", columns={"N": "x"})  # fmt: skip
    assert "no column says which run a point belongs to" in why


def test_size_may_be_absent():
    (document,) = ask(table(seeds=(0, 1, 2), drop=("size",)))
    assert [len(s["values"]) for s in document["result"]["families"][0]["sizes"]] == [3] * 5


def test_a_missing_step_is_named():
    rows = [{**r, "step": None if i == 2 else 100} for i, r in enumerate(table())]
    (document,) = ask(rows)
    assert [(d["row"], d["reason"]) for d in document["dropped"]] == [(3, "its step is missing or not finite")]


def test_measured_hours_of_seeds_are_one_size():
    rows = table(seeds=(0, 1, 2), gpu_hours=lambda i, seed: 2.0 ** (i // 3) * (1 + 0.02 * seed))
    (document,) = ask(rows, columns={"N": "gpu_hours"})
    sizes = document["result"]["families"][0]["sizes"]
    assert [s["x"] for s in sizes] == pytest.approx([1.02 * 2.0**k for k in range(5)])
    assert document["result"]["provenance"]["same_x"] == 0.2
    (counted,) = ask([{**r, "n": r["gpu_hours"]} for r in rows], columns={"N": "n"})
    assert "differ in x" in counted["result"]["families"][0]["verdict"]


def test_a_rising_metric_is_known_by_its_values():
    rows = [{**r, "acc1": 1 - r["loss"] / 4, "ssim": 1 - r["loss"] / 10} for r in table()]
    (document,) = answer(runs_of(rows, "t"), Request(loss="acc1"))
    assert "acc1" in document["result"]["refusals"][0]["sentence"]
    assert "grows with size in every family" in document["result"]["refusals"][0]["sentence"]
    assert document["result"]["gain_contrasts"] == []
    (fine,) = answer(runs_of(rows, "t"), Request(loss="1 - ssim"))
    assert fine["result"]["refusals"] == []
    (law, _) = answer(runs_of(rows, "t"), Request("power-law", loss="acc1", group=("family",)))
    assert law["result"]["parameters"] is None
    assert "grows with N" in law["result"]["refusals"][0]


WIDE = 2**53


def test_names_beyond_the_digits_of_a_float_stay_apart():
    (document,) = ask(table(run=lambda i, _: WIDE + i))
    assert document["source"]["runs"] == [str(WIDE + i) for i in range(10)]
    (document,) = ask(table(run=lambda i, _: str(WIDE + i)))
    assert document["source"]["rows_fitted"] == 10
    (document,) = ask(table(seeds=(WIDE, WIDE + 1)))
    assert [len(s["values"]) for s in document["result"]["families"][0]["sizes"]] == [2] * 5
    mixed = table(code=lambda i, _: WIDE + i % 2)
    choice = refused(mixed).split('--where "')[1].removesuffix('"')
    assert ask(mixed, where=choice)[0]["source"]["rows_fitted"] == 5
    (document,) = ask([{**r, "parameters": WIDE * 3**i + 1} for i, r in enumerate(table()[:5])])  # an axis has floats
    assert document["result"]["families"][0]["sizes"][0]["x"] == float(WIDE)


def test_an_axis_on_which_all_sizes_are_equal_is_no_rising_metric():
    rows = [{**r, "images": 16000} for r in table()]  # in the order of their letters, T comes last
    (document,) = ask(rows, columns={"N": "images"})
    assert document["result"]["refusals"] == []
    assert "have the same x (16000)" in document["result"]["families"][0]["verdict"]


def test_a_missing_column_with_a_slash_is_called_by_its_name():
    with pytest.raises(TableError, match="no column 'val', nor 'val/l1' as a whole - there are family"):
        answer(runs_of(table(), "t"), Request(loss="val/l1"))


def test_exact_copies_without_a_name_are_refused():
    rows = table(seeds=(0, 1), drop=("size", "seed"))
    assert ask(rows)[0]["source"]["rows_fitted"] == 20
    assert "rows 3 and 21 are exact copies, and no column says" in refused([*rows, rows[2]])
    assert "(and 1 more)" in refused([*rows, rows[2], rows[5]])
    law = [{**r, "D": 1e9 * 2 ** (i % 5)} for i, r in enumerate(rows)]
    assert "exact copies" in refused([*law, law[0]], "L(N,D)", columns={"D": "D"})
    told = [{**r, "run": str(i)} for i, r in enumerate([*rows, rows[2]])]
    assert ask(told)[0]["source"]["rows_fitted"] == 20 + 1
