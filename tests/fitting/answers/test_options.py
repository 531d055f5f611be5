"""What a form does not use is refused by name: a document must not record a choice that nobody read."""

import numpy as np
import pytest
from tests.fitting.answers.test_identity import refused, table

from transvae_platform.fitting.answers.answer import answer
from transvae_platform.fitting.answers.request import Request
from transvae_platform.fitting.laws.forms import UserForm, register
from transvae_platform.fitting.runs.read import TableError, runs_of

OPTIONS = [
    ("L(N)", {"bins": 3}, "bins"), ("L(N)", {"residuals": "linear"}, "residuals"),
    ("L(N)", {"least_absolute": True}, "least_absolute"), ("L(N)", {"bins": 3}, "bins"),
    ("L(N)", {"predict": "size == 'G'"}, "predict"), ("power-law", {"at": (1e9,)}, "at"),
    ("power-law", {"margin": 0.02}, "margin"), ("curve", {"far": True}, "far"),
    ("isoflop", {"delta": 1.0}, "delta"), ("envelope", {"level": 0.95}, "level"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "options", "name"), OPTIONS)
def test_unused_options(form, options, name):
    said = refused(table(), form, **options)
    assert f"the form {form} does not use {name}" in said


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"margin": 2.0}, "margin must lie between 0 and 1"),
        ({"margin": 0.0}, "margin must lie between 0 and 1"),
        ({"level": 90}, "level must lie between 0 and 1"),
        ({"at": (-1.0,)}, "at must be positive"),
        ({"at": (float("nan"),)}, "at must be positive"),
        ({"form": "power-law", "delta": 0.0}, "delta must be positive"),
        ({"form": "power-law", "delta": float("nan")}, "delta must be positive"),
        ({"form": "envelope", "bins": 1}, "bins must be at least 2"),
        ({"form": "power-law", "bootstrap": 20}, "bootstrap must be 0 or 100 to 100000"),
        ({"form": "power-law", "bootstrap": 30_000_000}, "bootstrap must be 0 or 100 to 100000"),
        ({"columns": {"N": "parameters", "D": "loss"}}, "does not use -c D= - its variables are N"),
        ({"where": "1 / 0"}, "cannot be computed"),
        ({"where": "where(loss)"}, "cannot be computed"),
        ({"where": "where(loss > 0, 1)"}, "cannot be computed"),
        ({"loss": "(1, 2, 3)"}, "cannot be computed"),
        ({"where": "loss < 9 ** 9 ** 9"}, None),
        ({"where": "family == 'a' * 1000000000"}, "cannot be computed"),
        ({"where": "(" * 150 + "loss" + ")" * 150 + "> 0"}, None),
        (
            {"form": "envelope", "columns": {"x": "parameters"}, "loss": "1 / loss", "where": "family == 'a'"},
            "at least two",
        ),
    ],
)
def test_impossible_requests_are_named(options, why):
    def ask():
        return answer(runs_of(table(), "t"), Request(**{"loss": "loss", **options}))

    if why is None:
        assert ask()
        return
    with pytest.raises(TableError, match=why):
        ask()


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("seed", "x1", "no whole number as its seed"), ("seed", "", "no whole number as its seed"),
        ("images", "unknown", "images is not a column of numbers"),
        ("learning_rate", "cosine", "learning_rate is not a column of numbers"),
        ("step", "end", "step is not a column of numbers"), ("loss", 10**400, "loss is not a column of numbers"),
    ],
    ids=lambda v: str(v)[:20],
)  # fmt: skip
@pytest.mark.parametrize("form", ["L(N)", "power-law"])
def test_text_where_numbers_are_needed(column, value, why, form):
    rows = [{"images": 1e6, "learning_rate": 1e-4, "step": 100, "warmup_steps": 1, **r} for r in table()]
    rows[3][column] = value
    if column == "seed" and form == "power-law":
        return  # names of runs may be text
    if form == "power-law" and column == "images":
        return  # not read
    with pytest.raises(TableError, match=why):
        answer(runs_of(rows, "t"), Request(form, loss="loss", where="family == 'a'"))


def power(theta, columns):
    return theta[0] * (columns["N"] / 1e7) ** -theta[1]


def slopes(theta, columns):
    law = power(theta, columns)
    return np.column_stack([law / theta[0], -law * np.log(columns["N"] / 1e7)])


@pytest.mark.parametrize(
    ("name", "functions", "why"),
    [
        ("short", {"predict": lambda t, c: np.array([1.0, 2.0])}, r"predict gives shape \(2,\), not \(5,\)"),
        ("flat", {"gradient": lambda t, c: slopes(t, c)[:, 0]}, r"gradient gives shape \(5,\), not \(5, 2\)"),
        ("wrong", {"gradient": lambda t, c: 2 * slopes(t, c)}, "gradient of A is not that of predict"),
        ("raises", {"predict": lambda t, c: c["Q"]}, "fails with KeyError"),
        (
            "later",
            {"predict": lambda t, c: power(t, c) * {True: 1}[t[1] > 0.3]},
            r"fails with KeyError.*\(at parameters",
        ),
    ],
)
def test_a_wrong_form_is_named(name, functions, why):
    form = UserForm(f"mine-{name}", "A N^-alpha", ("A", "alpha"), ("N",), **{"predict": power, "gradient": slopes,
                    **functions}, bounds={"A": (0.5, 2.0), "alpha": (0.1, 0.6)})  # fmt: skip
    register(form)
    with pytest.raises(TableError, match=why):
        answer(runs_of(table(), "t"), Request(form.name, loss="loss", bootstrap=0, where="family == 'a'"))


def test_helpers_are_read_by_later_columns_and_a_loss_is_asked_once():
    helped = Request(loss="loss", columns={"M": "parameters", "N": "2 * M"})
    assert answer(runs_of(table(), "t"), helped)
    with pytest.raises(TableError, match="the loss loss is named twice"):
        answer(runs_of(table(), "t"), Request(loss="loss"), ["loss"])
