"""Which rows of a table may be fitted: every other one is named with its reason, and mixed tables are refused.

Columns by their names, each optional: `run` (default: family, size, seed together), `step`, `status`, `phase`,
`learning_rate`, `warmup_steps`, and those of CONDITIONS.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transvae_platform.fitting.runs.read import CONDITIONS, Runs, TableError, shown

UNDERWAY = frozenset({"running", "queued", "stopped"})
"""Not finished, and healthy as far as they went: points of a curve."""
FINISHED = frozenset({"finished", "completed", "done", "ok", ""})
WARMUP = frozenset({"warmup", "warm-up", "warm_up"})
LARGEST = 1e100  # a loss or size beyond it, or below its inverse, overflows where it is squared
SAME_RATE = 1e-6  # learning rates that differ by less are one (rounding of printed rates)


@dataclass(frozen=True)
class Dropped:
    """One row that is not fitted; number: its line or record in the source."""

    number: int
    reason: str


def usable(
    runs: Runs, needed: dict[str, NDArray[Any]], *, unfinished: bool = False
) -> tuple[NDArray[np.bool_], tuple[Dropped, ...]]:
    """Rows that may be fitted, as a mask, and the others. needed: the numbers that the form uses, by name.

    unfinished: whether runs that have not ended count, as they do for a form of whole curves; failed ones never do.

    Raises:
        TableError: a column that must hold numbers holds text.
    """
    reasons: list[str | None] = [None] * len(runs)

    def drop(rows: NDArray[np.bool_], why: Sequence[str]) -> None:
        for i in np.flatnonzero(rows).tolist():
            reasons[i] = reasons[i] or why[i]

    status = _text(runs, "status")
    if status is not None:
        allowed = FINISHED | UNDERWAY if unfinished else FINISHED
        status = ["" if s == "nan" else s for s in status]  # an empty column is read as one of numbers
        drop(np.array([s.lower() not in allowed for s in status]), [f"its status is {s!r}" for s in status])
    if (phase := _text(runs, "phase")) is not None:
        drop(np.array([p.lower() in WARMUP for p in phase]), ["it lies inside warm-up"] * len(runs))
    if "step" in runs.columns:
        drop(~np.isfinite(numbers_of(runs, "step")), ["its step is missing or not finite"] * len(runs))
    if {"step", "warmup_steps"} <= set(runs.columns):
        step, warmup = runs.columns["step"], numbers_of(runs, "warmup_steps")
        drop(
            ~np.isfinite(warmup), ["its warmup_steps is missing: whether it lies inside warm-up is unknown"] * len(runs)
        )
        drop(
            step < warmup, [f"it lies inside warm-up (step {s:g} of {w:g})" for s, w in zip(step, warmup, strict=True)]
        )
    for name, values in needed.items():
        if values.dtype.kind not in "fiu":
            raise TableError(
                f"{runs.source}: {name} is not a column of numbers (e.g. {str(values.tolist()[0])[:40]!r})"
            )
        outside = (values > LARGEST) | ((values > 0) & (values < 1 / LARGEST))
        drop(
            np.isfinite(values) & outside,
            [f"{name} is {v:g}, beyond {1 / LARGEST:g} to {LARGEST:g}, where no sum of squares holds" for v in values],
        )
        drop(~np.isfinite(values), [f"{name} is missing or not finite"] * len(runs))
        drop(~(values > 0), [f"{name} is not positive ({v:g}), and laws are sums of powers" for v in values])
    kept = np.array([reason is None for reason in reasons])
    dropped = tuple(
        Dropped(int(n), reason) for n, reason in zip(runs.numbers, reasons, strict=True) if reason is not None
    )
    return kept, dropped


def refuse_mixed(runs: Runs, except_for: Sequence[str] = ()) -> None:
    """Rows that differ in something besides size and training must not be one fit.

    Raises:
        TableError: names the column, its values with their counts, and how to choose one.
    """
    for name in CONDITIONS:
        values = None if name in except_for else _text(runs, name)
        if values is None or len(set(values)) < 2:
            continue
        counts = Counter(values).most_common()
        listed = ", ".join(f"{value!r} in {count} rows" for value, count in counts[:6])
        first = next((value for value, _ in counts if value not in ("", "nan")), counts[0][0])
        first = repr(first) if isinstance(runs.columns[name][0], str) else first
        raise TableError(
            f"{runs.source}: the rows mix {name} ({listed}), and a law would read that difference as scaling - choose "
            f'one: --where "{name} == {first}"'
        )


def refuse_families(runs: Runs) -> None:
    """One law is of one family: those of several differ by more than their points do.

    Raises:
        TableError: names the families.
    """
    families = sorted(set(_text(runs, "family") or ()))
    if len(families) > 1:
        raise TableError(
            f"{runs.source}: the rows mix {len(families)} families ({', '.join(families[:6])}), and one law through "
            "all would read their difference as scaling - use --group family, or choose one with --where"
        )


def numbers_of(runs: Runs, name: str) -> NDArray[np.float64]:
    """TableError unless the column holds numbers."""
    values = runs.column(name)
    if values.dtype.kind not in "fiu":
        wrong = next((v for v in values.tolist() if not isinstance(v, float)), values[0])
        raise TableError(f"{runs.source}: {name} is not a column of numbers (e.g. {str(wrong)[:40]!r})")
    return np.asarray(values, dtype=np.float64)


def run_names(runs: Runs, size: NDArray[Any] | None = None) -> list[str] | None:
    """The run of every row: the column `run`, or family, size and seed together; None where every row is one.

    size: stands in where there is no column `size`. Rows without `step` and `seed` are runs of their own.

    Raises:
        TableError: there are steps, and nothing says which run they belong to.
    """
    if (named := _text(runs, "run")) is not None:
        return named
    parts = [found for key in ("family", "size", "seed") if (found := _text(runs, key)) is not None]
    if "size" not in runs.columns and size is not None and {"step", "seed"} & set(runs.columns):
        parts.append([shown(v) for v in size.tolist()])
    elif "step" in runs.columns and not {"size", "seed"} & set(runs.columns):
        raise TableError(
            f"{runs.source}: the rows have steps, and no column says which run a point belongs to - name it `run`, or "
            "give family, size (or parameters) and seed"
        )
    if len(parts) < 2 and "step" not in runs.columns:
        return None
    return [" ".join(part) for part in zip(*parts, strict=True)]


def rate_rises(runs: Runs, names: Sequence[str]) -> NDArray[np.bool_]:
    """Rows after which the learning rate of their run is higher: they lie inside warm-up."""
    rises = np.zeros(len(runs), dtype=bool)
    if not {"step", "learning_rate"} <= set(runs.columns):
        return rises
    step, rate = numbers_of(runs, "step"), numbers_of(runs, "learning_rate")
    curves: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        if np.isfinite(step[i]) and np.isfinite(rate[i]):
            curves.setdefault(name, []).append(i)
    for rows in curves.values():
        order = np.array(rows)[np.argsort(step[rows], kind="stable")]
        rises[order[:-1]] = rate[order[1:]] > rate[order[:-1]] * (1 + SAME_RATE)
    return rises


def refuse_duplicates(runs: Runs, names: Sequence[str], at: NDArray[np.float64] | None = None) -> None:
    """One row per run and step; at: what tells points of a run apart where there are no steps (images seen).

    Raises:
        TableError: names the first pair and how many there are.
    """
    steps = _text(runs, "step") or ([""] * len(runs) if at is None else [shown(v) for v in at.tolist()])
    first: dict[tuple[str, str], int] = {}
    twice: list[str] = []
    for key, number in zip(zip(names, steps, strict=True), runs.numbers.tolist(), strict=True):
        if key in first:
            where = f" at step {key[1]}" if key[1] else ""
            twice.append(f"rows {first[key]} and {number} are both run {key[0]!r}{where}")
        first.setdefault(key, number)
    if twice:
        more = f" (and {len(twice) - 1} more)" if len(twice) > 1 else ""
        raise TableError(
            f"{runs.source}: {twice[0]}{more}, and which of them is right cannot be told - keep one row per run and "
            "step; a run that was resumed keeps its later record"
        )


def refuse_copies(runs: Runs) -> None:
    """Rows of which no column tells the run must differ in something: seeds of one size differ in their loss.

    Raises:
        TableError: names the first two rows that are exact copies, and how many there are.
    """
    first: dict[tuple[str, ...], int] = {}
    copies: list[str] = []
    for values, number in zip(zip(*runs.columns.values(), strict=True), runs.numbers.tolist(), strict=True):
        key = tuple(shown(value) for value in values)
        if key in first:
            copies.append(f"rows {first[key]} and {number} are exact copies")
        first.setdefault(key, number)
    if copies:
        more = f" (and {len(copies) - 1} more)" if len(copies) > 1 else ""
        raise TableError(
            f"{runs.source}: {copies[0]}{more}, and no column says whether that is one run or two - keep one of them, "
            "or name runs by a column `run` or `seed`"
        )


def _text(runs: Runs, name: str) -> list[str] | None:
    if name not in runs.columns:
        return None
    return [shown(v) for v in runs.columns[name].tolist()]
