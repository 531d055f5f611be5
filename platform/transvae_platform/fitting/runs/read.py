"""A table of runs from a file: CSV, JSON lines or Parquet; one row per run, or per point of a run's curve."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

READERS = ("csv", "jsonl", "parquet")
# What one fit must not mix: each changes the loss by itself. Values are compared as text.
CONDITIONS = (
    "metric", "variant", "resolution", "stage", "phase", "schedule", "ema", "weights", "data", "evaluation", "code",
)  # fmt: skip
# Columns that are compared and never computed with: whole numbers in them keep all their digits.
NAMES = frozenset({"run", "family", "size", "seed", *CONDITIONS})
# All columns that are checked or stand in for another; one that is called almost so would be passed over in silence.
MEANT = NAMES | {
    "step", "status", "parameters", "training_flops", "loss_flops", "images", "gpu_hours", "learning_rate",
    "warmup_steps",
}  # fmt: skip
LONGEST_NUMBER = 4000  # digits; Python converts 4300


class TableError(ValueError):
    """A table, a column or an expression that cannot be used: one sentence with the way out."""


@dataclass(frozen=True, eq=False)
class Runs:
    """Columns of equal length: float64 where every value is a number or missing (NaN), objects elsewhere.

    A column of NAMES with whole numbers that no float holds (beyond 2^53) has them as exact ints.

    `numbers`: the line or record of each row in its source, for messages. sha256: of the file's bytes, or of the rows.
    """

    columns: Mapping[str, NDArray[Any]]
    numbers: NDArray[np.int64]
    source: str
    sha256: str

    def __len__(self) -> int:
        return len(self.numbers)

    def column(self, name: str) -> NDArray[Any]:
        """TableError, with the names of those that are there, for an unknown column."""
        if name not in self.columns:
            raise TableError(f"{self.source}: no column {name!r} - there are {', '.join(self.columns) or 'none'}")
        return self.columns[name]

    def where(self, keep: NDArray[np.bool_]) -> Runs:
        """The rows that are kept."""
        kept = {name: values[keep] for name, values in self.columns.items()}
        return Runs(kept, self.numbers[keep], self.source, self.sha256)


def shown(value: object) -> str:
    """A value as exact text: 512 for 512.0, all digits of any other float."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(float(value))
    return str(value)


def read_runs(path: Path) -> Runs:
    """Reads a table by its suffix (.csv, .jsonl, .parquet).

    Raises:
        TableError: it is missing, of another kind, empty, or not what its suffix says.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in READERS:
        raise TableError(f"{path}: a table of runs is a .csv, .jsonl or .parquet file")
    try:
        data = path.read_bytes()
        if kind == "parquet":
            rows = _parquet(path)
            lines = list(range(1, len(rows) + 1))
        else:
            rows, lines = _lines(data.decode("utf-8-sig"), kind, path)
    except OSError as error:
        raise TableError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, TableError):
            raise
        raise TableError(f"{path}: is not a {kind} file ({str(error).splitlines()[0]})") from None
    return runs_of(rows, str(path), hashlib.sha256(data).hexdigest(), lines)


def runs_of(
    rows: Sequence[Mapping[str, Any]], source: str, sha256: str | None = None, lines: Sequence[int] | None = None
) -> Runs:
    """A table of rows in memory; a key that a row lacks is missing there. lines: their numbers, else from 1 on.

    Raises:
        TableError: there are no rows, or a column is called almost like one that is checked.
    """
    if not rows:
        raise TableError(f"{source}: holds no rows")
    if sha256 is None:
        sha256 = hashlib.sha256(json.dumps(list(map(dict, rows)), sort_keys=True, default=str).encode()).hexdigest()
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        meant = re.sub(r"[\s_-]+", "_", name.strip().lower())
        if meant in MEANT and meant not in names:
            raise TableError(f"{source}: the column {name!r} would not be read as {meant!r} - rename it to that")
    columns = {name: _column([row.get(name) for row in rows], exact=name in NAMES) for name in names}
    return Runs(columns, np.array(lines or range(1, len(rows) + 1), dtype=np.int64), source, sha256)


def _lines(text: str, kind: str, path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """Rows, and the line of each (its last one, where a quoted value breaks over several)."""
    if kind == "jsonl":
        lines = [number for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
        rows = [json.loads(line, object_pairs_hook=_once) for line in text.splitlines() if line.strip()]
        if not all(isinstance(row, dict) for row in rows):
            raise TableError(f"{path}: every line must be one JSON object")
        return rows, lines
    reader = csv.DictReader(text.splitlines(), restkey="", strict=True)
    rows, lines = [], []
    try:
        for row in reader:
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise TableError(f"{path}: line {reader.line_num} is not CSV ({error})") from None
    named = reader.fieldnames or []
    if len(set(named)) < len(named):
        raise TableError(f"{path}: two columns have the same name ({', '.join(named)})")
    for number, row in zip(lines, rows, strict=True):
        if "" in row or None in row.values():
            raise TableError(f"{path}: line {number} has another number of fields than the header")
    return rows, lines


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; ValueError if it names a key twice, of which one value would disappear."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"two keys of an object have the same name ({', '.join(name for name, _ in pairs)})")
    return found


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet  # heavy, and the other kinds do not need it

    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    return rows


def _column(values: Sequence[Any], *, exact: bool) -> NDArray[Any]:
    """float64 if every value is a number or missing, else the values as text or what they are.

    exact: whole numbers that would lose digits as floats make the column one of ints.
    """
    numbers = []
    for value in values:
        if isinstance(value, bool):
            return np.array(values, dtype=object)
        try:
            if isinstance(value, str) and "_" in value:
                raise ValueError(value)  # Python reads 1_1 as 11: two names would become one
            if exact and isinstance(value, str) and not _is_plain(value):
                raise ValueError(value)  # 01 and 1 are two names
            numbers.append(float("nan") if value is None or value == "" else float(value))
        except (TypeError, ValueError, OverflowError):
            return np.array(["" if v is None else v for v in values], dtype=object)
    wholes = [_whole(value) for value in values] if exact else []
    if any(
        whole is not None and (math.isinf(number) or whole != int(number))
        for whole, number in zip(wholes, numbers, strict=False)
    ):
        return np.array([w if w is not None else n for w, n in zip(wholes, numbers, strict=True)], dtype=object)
    return np.array(numbers)


def _is_plain(value: str) -> bool:
    """Whether the text of a name can be told from its number: no zeros before it, no more digits than Python reads, no
    letters (1e5, inf) other than those of a missing one."""
    digits = value.strip().lstrip("+-")
    if any(map(str.isalpha, digits)) and digits.lower() != "nan":
        return False
    return not digits.isdecimal() or digits == "0" or (not digits.startswith("0") and len(digits) <= LONGEST_NUMBER)


def _whole(value: Any) -> int | None:
    """Of 12, "12" and " 12 "; None for everything else."""
    if isinstance(value, int) or (isinstance(value, str) and value.strip().lstrip("+-").isdecimal()):
        return int(value)
    return None
