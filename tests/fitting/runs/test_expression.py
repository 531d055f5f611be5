"""Expressions over columns compute what they say, and evaluate nothing else."""

import numpy as np
import pytest

from transvae_platform.fitting.runs.expression import FUNCTIONS, evaluate
from transvae_platform.fitting.runs.read import TableError

COLUMNS = {
    "Training FLOP": np.array([6.0, 12.0, 24.0]), "N": np.array([1.0, 2.0, 4.0]),
    "who": np.array(["a", "b", "b"], dtype=object),
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("`Training FLOP` / (6 * N)", [1, 1, 1]),
        ("-N ** 2 + 1", [0, -3, -15]),
        ("log10(10 * N / N)", [1, 1, 1]),
        ("1 < N <= 4 and who == 'b'", [False, True, True]),
        ("not who in ('a', 'c')", [False, True, True]),
        ("who not in ['a'] or N < 2", [True, True, True]),
        ("where(who == 'a', 10, N)", [10, 2, 4]),
        ("3", [3, 3, 3]),
    ],
)
def test_value(text, value):
    np.testing.assert_allclose(evaluate(text, COLUMNS, 3), value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("__import__('os').system('true')", "only arithmetic"),
        ("N.shape", "only arithmetic"),
        ("[n for n in N]", "only arithmetic"),
        ("open('x')", "only arithmetic"),
        ("M + 1", "no column 'M', nor 'M \\+ 1' as a whole - there are Training FLOP, N, who"),
        ("`Training flop`", "no column 'Training flop'"),
        ("N +", "is not an expression"),
        ("exp(N, N) > 0", "exp takes 1 values, not 2"),
        ("where(who == 'a', 1)", "where takes 3 values, not 2"),
        ("-" * 20_000 + "N", "20001 characters, 10000 are read"),
        ("N" + " + N" * 2400, "cannot be"),
        ("-" * 9000 + "N", "cannot be"),
        ("who + 1", "does not fit the values"),
    ],
)
def test_refusal(text, why):
    with pytest.raises(TableError, match=why):
        evaluate(text, COLUMNS, 3)


def test_a_long_expression_is_not_repeated():
    with pytest.raises(TableError) as error:
        evaluate("N" + " + N" * 2400, COLUMNS, 3)
    assert len(str(error.value)) < 400


def test_the_table_cannot_be_written(monkeypatch):
    monkeypatch.setitem(FUNCTIONS, "exp", (np.exp, 2))  # the second value is where NumPy writes its answer
    column = np.array([1.0, 2.0])
    with pytest.raises(TableError, match="read-only"):
        evaluate("exp(a, a) > 0", {"a": column}, 2)
    assert column.tolist() == [1.0, 2.0]
