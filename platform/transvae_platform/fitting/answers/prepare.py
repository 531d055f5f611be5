"""From a table and a request to the numbers of one fit: rows chosen, columns computed, everything else named."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transvae_platform.fitting.answers.request import FAMILIES, Request
from transvae_platform.fitting.laws.forms import CURVE, FloatArray
from transvae_platform.fitting.refusals import rising_metric
from transvae_platform.fitting.runs.checks import (
    Dropped,
    rate_rises,
    refuse_copies,
    refuse_duplicates,
    refuse_families,
    refuse_mixed,
    run_names,
    usable,
)
from transvae_platform.fitting.runs.expression import columns_of, evaluate
from transvae_platform.fitting.runs.read import Runs, TableError, shown


@dataclass(frozen=True, eq=False)
class Prepared:
    """One group's rows. names: the run of each row, None where every row is a run of its own."""

    request: Request
    group: Mapping[str, str]
    runs: Runs
    columns: Mapping[str, FloatArray]
    loss: FloatArray
    names: list[str] | None
    dropped: tuple[Dropped, ...]
    held_out: Runs | None

    @property
    def data_sha256(self) -> str:
        """Of the numbers that were fitted, in their order."""
        digest = hashlib.sha256()
        for name, values in (*self.columns.items(), ("loss", self.loss)):
            digest.update(f"{name}\n{[repr(v) for v in values.tolist()]}\n".encode())
        return digest.hexdigest()


def prepare(runs: Runs, request: Request, variables: Sequence[str], *, whole_curves: bool) -> Iterator[Prepared]:
    """One Prepared per group. whole_curves: whether the form takes every point of a run, or only its last.

    Raises:
        TableError: a column is missing, the metric rises with quality, rows are mixed or duplicated, none is left.
    """
    rising = rising_metric(request.loss)
    if rising is not None:
        raise TableError(rising.sentence.removesuffix("."))
    missing = [v for v in variables if v not in request.columns]
    if missing:
        raise TableError(
            f"the form {request.form} needs {', '.join(missing)} - name the column: -c {missing[0]}=COLUMN"
        )
    chosen, unknown = _chosen(request.where, runs)
    if not chosen.any():
        raise TableError(f"{runs.source}: no row satisfies {request.where}")
    lost = {tuple(label.items()): part for label, part in _groups(runs.where(unknown), request.group)}
    for label, part in _groups(runs.where(chosen), request.group):
        named = _unknown(request.where, lost.get(tuple(label.items())))
        yield _prepare_group(part, request, variables, label, named, whole_curves=whole_curves)


def values_of(runs: Runs, request: Request, variables: Sequence[str], *, predicted: bool = False
              ) -> tuple[dict[str, FloatArray], NDArray[np.float64]]:  # fmt: skip
    """The columns of a form, in which later expressions may use earlier ones, and the loss."""
    scope = dict(runs.columns)
    expressions = {**request.columns, **(request.predict_columns if predicted else {})}
    found = {}
    for name, text in expressions.items():
        scope[name] = found[name] = evaluate(_named(text, runs), scope, len(runs))
    loss = evaluate(_named(request.loss, runs), scope, len(runs))
    return {v: found[v] for v in variables}, loss


def _prepare_group(
    runs: Runs, request: Request, variables: Sequence[str], label: Mapping[str, str], aside: tuple[Dropped, ...], *,
    whole_curves: bool,
) -> Prepared:  # fmt: skip
    held_out, all_rows = None, runs
    if request.predict is not None:
        chosen, unknown = _chosen(request.predict, runs)
        aside += _unknown(request.predict, runs.where(unknown))
        rest, runs = runs.where(chosen), runs.where(~chosen & ~unknown)
        _refuse_none(runs, f"all satisfy {request.predict}" + ", or lack a value that it reads" * bool(unknown.any()))
        if len(rest):
            kept, unfit, *_ = _checked(rest, request, variables, whole_curves=whole_curves, predicted=True)
            held_out, aside = rest.where(kept), aside + unfit
    kept, dropped, names, columns, loss = _checked(runs, request, variables, whole_curves=whole_curves)
    left, columns, loss = runs.where(kept), {n: v[kept] for n, v in columns.items()}, loss[kept]
    if not len(left):
        _refuse_none(left, f"{dropped[0].reason}, and so on")
    names = None if names is None else [name for name, keep in zip(names, kept.tolist(), strict=True) if keep]
    used = left if held_out is None else all_rows.where(np.isin(all_rows.numbers, [*left.numbers, *held_out.numbers]))
    refuse_mixed(used, except_for=request.group)  # first: of two conditions of one run both rows are right
    if names is not None:
        at = next((columns[v] for v in ("images", "D") if v in columns and whole_curves), None)
        refuse_duplicates(left, names, at)
    else:
        refuse_copies(left)
    if request.form not in (FAMILIES, CURVE):  # which have a law per family, or per run
        refuse_families(used)
    return Prepared(request, label, left, columns, loss, names, (*dropped, *aside), held_out)


def _checked(
    runs: Runs, request: Request, variables: Sequence[str], *, whole_curves: bool, predicted: bool = False
) -> tuple[NDArray[np.bool_], tuple[Dropped, ...], list[str] | None, dict[str, FloatArray], FloatArray]:
    """Which rows may stand (mask), the others with their reasons, and runs, columns and loss of all of them."""
    columns, loss = values_of(runs, request, variables, predicted=predicted)
    kept, dropped = usable(runs, {**columns, request.loss: loss}, unfinished=whole_curves)
    names = run_names(runs, _size_of(runs, request, columns))
    if names is not None:
        rising = kept & rate_rises(runs, names)
        dropped += tuple(Dropped(n, "its run's learning rate still rises there") for n in runs.numbers[rising].tolist())
        kept &= ~rising
    if names is not None and not whole_curves and "step" in runs.columns:
        # before bad rows are left out: a run that lost its last point is not fitted at an earlier one
        # a row without a step may be the last of its run: it counts as such, and is left out
        last = _last_of_each(names, np.nan_to_num(runs.columns["step"].astype(np.float64), nan=np.inf))
        earlier = runs.numbers[kept & ~last].tolist()
        dropped += tuple(Dropped(number, "an earlier point of its run's curve") for number in earlier)
        kept &= last
    if predicted:
        dropped = tuple(Dropped(d.number, f"it was to be predicted, and {d.reason}") for d in dropped)
    return kept, dropped, names, columns, loss


def _refuse_none(runs: Runs, why: str) -> None:
    if not len(runs):
        raise TableError(f"{runs.source}: no usable row is left ({why})")


def _size_of(runs: Runs, request: Request, columns: Mapping[str, FloatArray]) -> NDArray[Any] | None:
    """What tells sizes apart where no column `size` does: the parameters, or N where it stays the same along a run."""
    if "parameters" in runs.columns:
        return runs.columns["parameters"]
    n = columns.get("N")
    if n is None or ("step" in runs.columns and len(np.unique(n)) == len(n) > 1):
        return None
    return n


def _last_of_each(names: Sequence[str], steps: NDArray[np.float64]) -> NDArray[np.bool_]:
    latest: dict[str, float] = {}
    for name, step in zip(names, steps.tolist(), strict=True):
        latest[name] = max(step, latest.get(name, step))
    return np.array([latest[name] == step for name, step in zip(names, steps.tolist(), strict=True)])


def _groups(runs: Runs, by: Sequence[str]) -> Iterator[tuple[dict[str, str], Runs]]:
    if not by:
        yield {}, runs
        return
    keys = [tuple(shown(runs.column(name)[i]) for name in by) for i in range(len(runs))]
    for key in dict.fromkeys(keys):
        yield dict(zip(by, key, strict=True)), runs.where(np.array([k == key for k in keys]))


def _chosen(text: str | None, runs: Runs) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Rows for which a condition holds, and those for which that is unknown, because a value that it reads is missing.

    A comparison with nothing is false: such rows would leave the fit without a word.
    """
    unknown = np.zeros(len(runs), dtype=bool)
    if text is None:
        return ~unknown, unknown
    found = evaluate(text, runs.columns, len(runs))
    if found.dtype != bool:
        raise TableError(f"{text!r} is no condition: it must be true or false for every row")
    for name in columns_of(text) & set(runs.columns):
        unknown |= [value == "" or value != value for value in runs.columns[name].tolist()]
    return found, unknown & ~found


def _unknown(text: str | None, runs: Runs | None) -> tuple[Dropped, ...]:
    numbers = [] if runs is None else runs.numbers.tolist()
    return tuple(
        Dropped(n, f"a value that {text!r} reads is missing, so it is unknown whether it holds") for n in numbers
    )


def _named(text: str, runs: Runs) -> str:
    """A column's plain name needs no backticks."""
    return f"`{text}`" if text in runs.columns else text
