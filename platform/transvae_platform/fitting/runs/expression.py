"""Columns computed from columns: `Training FLOP` / (6 * N), loss < 3.4 and dataset == 'rpj'.

Arithmetic, comparisons, and, or, not, in, and the functions below; names that are no Python identifiers stand in
backticks. Nothing else is evaluated: an expression may come from a stranger's shell script.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transvae_platform.fitting.runs.read import TableError

FUNCTIONS: dict[str, tuple[Callable[..., Any], int]] = {
    "log": (np.log, 1), "log10": (np.log10, 1), "exp": (np.exp, 1), "sqrt": (np.sqrt, 1), "abs": (np.abs, 1),
    "isfinite": (np.isfinite, 1), "where": (np.where, 3),
}  # fmt: skip
"""With the number of values that each takes: one more would be where NumPy writes its answer."""
SAID = 200  # characters of it in a message
LONGEST = 10_000  # characters of an expression; the parser's own limits end the process (assumption)
BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: np.float_power,
}  # fmt: skip
COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq,
    ast.NotEq: operator.ne, ast.In: lambda a, b: np.isin(a, b), ast.NotIn: lambda a, b: ~np.isin(a, b),
}  # fmt: skip


def evaluate(text: str, columns: Mapping[str, NDArray[Any]], rows: int) -> NDArray[Any]:
    """The value of an expression in every row, (rows,).

    Raises:
        TableError: it cannot be read, names an unknown column, or does not fit the columns' values.
    """
    tree, quoted, text = _parsed(text)
    try:
        with np.errstate(all="ignore"):
            value = np.asarray(_value(tree, columns, quoted, text))
        return np.broadcast_to(value, (rows,)).copy()
    except TableError:
        raise
    except (TypeError, np.exceptions.DTypePromotionError) as error:
        raise TableError(f"{text!r} cannot be computed: it does not fit the values ({_first(error)})") from None
    except (ValueError, ArithmeticError, RecursionError, MemoryError) as error:
        raise TableError(f"{text!r} cannot be computed ({_first(error)})") from None


def columns_of(text: str) -> set[str]:
    """The names that an expression reads.

    Raises:
        TableError: it cannot be read.
    """
    tree, quoted, _ = _parsed(text)
    return {quoted.get(node.id, node.id) for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _parsed(text: str) -> tuple[ast.expr, dict[str, str], str]:
    """The tree, the columns behind its stand-ins for names in backticks, and the text as messages show it."""
    quoted: dict[str, str] = {}
    whole, text = text, text if len(text) <= SAID else text[:SAID] + "..."

    def unquote(match: re.Match[str]) -> str:
        name = f"_quoted{len(quoted)}"
        quoted[name] = match.group(1)
        return name

    if len(whole) > LONGEST:
        raise TableError(f"{text!r}: an expression of {len(whole)} characters, {LONGEST} are read")
    try:
        return ast.parse(re.sub(r"`([^`]+)`", unquote, whole.strip()), mode="eval").body, quoted, text
    except SyntaxError:
        raise TableError(f"{text!r} is not an expression (names with spaces stand in backticks)") from None
    except (RecursionError, MemoryError, ValueError) as error:
        raise TableError(f"{text!r} cannot be read ({_first(error)})") from None


def _first(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _value(node: ast.expr, columns: Mapping[str, NDArray[Any]], quoted: Mapping[str, str], text: str) -> Any:
    def value(part: ast.expr) -> Any:
        return _value(part, columns, quoted, text)

    match node:
        case ast.Constant(value=bool() | str()):
            return node.value
        case ast.Constant(value=int() | float() as number):
            return float(number)  # whole numbers without a limit would take all memory: 9 ** 9 ** 9, 'a' * 10 ** 9
        case ast.Name(id=name):
            name = quoted.get(name, name)
            if name not in columns:
                whole = "" if name == text.strip("` ") else f", nor {text!r} as a whole"
                raise TableError(f"no column {name!r}{whole} - there are {', '.join(columns)}")
            column = columns[name].view()
            column.flags.writeable = False
            return column
        case ast.BinOp(op=op) if type(op) in BINARY:
            return BINARY[type(op)](value(node.left), value(node.right))
        case ast.UnaryOp(op=ast.USub()):
            return -value(node.operand)
        case ast.UnaryOp(op=ast.Not()):
            return np.logical_not(value(node.operand))
        case ast.BoolOp(op=op):
            join = np.logical_and if isinstance(op, ast.And) else np.logical_or
            return join.reduce(np.broadcast_arrays(*map(value, node.values)))
        case ast.Compare(left=left, ops=ops, comparators=others):
            sides = [value(left), *map(value, others)]
            if all(type(op) in COMPARE for op in ops):
                found = [COMPARE[type(op)](*pair) for op, pair in zip(ops, pairwise(sides), strict=True)]
                return np.logical_and.reduce(np.broadcast_arrays(*found))
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return [value(part) for part in parts]
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            function, takes = FUNCTIONS[name]
            if len(arguments) != takes:
                raise TableError(f"{text!r} cannot be computed: {name} takes {takes} values, not {len(arguments)}")
            return function(*map(value, arguments))
    known = ", ".join(FUNCTIONS)
    raise TableError(f"{text!r}: only arithmetic, comparisons, and, or, not, in, and {known} are understood")
