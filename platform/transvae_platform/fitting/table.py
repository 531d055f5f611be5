"""From rows (family, size, seed, x, value) to one table of size means per family; unusable rows are named, not lost."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real

from transvae_platform.fitting.refusals import Refusal, mixed_rows

# Two values of x that differ by less are one size (assumption: rounding of stored FLOPs, far below any rung).
SAME_X = 1e-9
# Axes that are measured and not counted: hours of one size differ with the load of the machine. Seeds that differ by
# less are one size at their mean x (assumption); what that shifts a loss enters the scatter of the sizes.
MEASURED_X = {"gpu_hours": 0.2}


@dataclass(frozen=True)
class Point:
    """One finished (or failed) run. x > 0 (parameters or training FLOPs); value > 0, a loss: lower is better.

    `excluded` carries the reason why a run must not be fitted (crashed, inside warm-up, ...), else None.
    """

    family: str
    size: str
    seed: int
    x: float
    value: float
    excluded: str | None = None


@dataclass(frozen=True)
class ExcludedPoint:
    point: Point
    reason: str


@dataclass(frozen=True)
class SizeMean:
    """Mean loss of one size over its seeds."""

    size: str
    x: float
    mean: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class FamilyTable:
    """The sizes of one family in ascending x. seed_sd: relative standard deviation over seeds, pooled over sizes."""

    family: str
    sizes: tuple[SizeMean, ...]
    seed_sd: float | None
    refusals: tuple[Refusal, ...]

    @property
    def x(self) -> tuple[float, ...]:
        return tuple(s.x for s in self.sizes)

    @property
    def y(self) -> tuple[float, ...]:
        return tuple(s.mean for s in self.sizes)


def build_tables(
    points: Iterable[Point], same_x: float = SAME_X
) -> tuple[tuple[FamilyTable, ...], tuple[ExcludedPoint, ...]]:
    """One table per family named in the input, in alphabetical order, and the excluded rows with their reasons.

    same_x: how far apart, relative, the x of one size may lie.
    """
    rows, excluded = sorted(points, key=_order), []
    usable: dict[str, list[Point]] = {p.family: [] for p in rows}
    seen: set[tuple[str, ...]] = set()
    for point in rows:
        reason = "exact copy of another row" if _order(point) in seen else _why_unusable(point)
        seen.add(_order(point))
        if reason is None:
            usable[point.family].append(point)
        else:
            excluded.append(ExcludedPoint(point, reason))
    return tuple(_family_table(family, kept, same_x) for family, kept in usable.items()), tuple(excluded)


def data_hash(points: Sequence[Point]) -> str:
    """SHA-256 of all rows, excluded ones too; the order of the rows does not matter."""
    rows = [[p.family, p.size, repr(p.seed), repr(p.x), repr(p.value), p.excluded] for p in sorted(points, key=_order)]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _order(p: Point) -> tuple[str, ...]:
    return p.family, p.size, repr(p.seed), repr(p.x), repr(p.value), p.excluded or ""


def _why_unusable(p: Point) -> str | None:
    if p.excluded is not None:
        return p.excluded
    for name, number in (("x", p.x), ("value", p.value)):
        if not isinstance(number, Real) or isinstance(number, bool):
            return f"{name} is not a number ({number!r})"
        if not math.isfinite(number):
            return f"{name} is not finite ({number})"
        if number <= 0:
            return f"{name} is not positive ({number:g}); the law describes positive losses over positive sizes"
    return None


def _family_table(family: str, points: Sequence[Point], same_x: float) -> FamilyTable:
    by_size: dict[str, list[Point]] = defaultdict(list)
    for p in points:
        by_size[p.size].append(p)
    problems, sizes = [], []
    for size, group in by_size.items():
        xs, seeds = [float(p.x) for p in group], [p.seed for p in group]
        if max(xs) > min(xs) * (1 + same_x):
            problems.append(
                mixed_rows(family, f"the rows of size {size} differ in x ({min(xs):.10g} to {max(xs):.10g})")
            )
        if len(set(seeds)) < len(seeds):
            problems.append(mixed_rows(family, f"size {size} has two different rows for one seed"))
        values = tuple(float(p.value) for p in group)
        x = xs[0] if same_x == SAME_X else math.fsum(xs) / len(xs)
        sizes.append(SizeMean(size, x, math.fsum(values) / len(values), values))
    sizes.sort(key=lambda s: (s.x, s.size))
    for a, b in pairwise(sizes):
        if b.x <= a.x * (1 + SAME_X):
            problems.append(mixed_rows(family, f"sizes {a.size} and {b.size} have the same x ({a.x:g})"))
    return FamilyTable(family, tuple(sizes), _seed_sd(sizes), tuple(problems))


def _seed_sd(sizes: Sequence[SizeMean]) -> float | None:
    """Root of the pooled relative variance within sizes; None when every size has one seed."""
    df = sum(len(s.values) - 1 for s in sizes)
    if df == 0:
        return None
    return math.sqrt(math.fsum((v / s.mean - 1.0) ** 2 for s in sizes for v in s.values) / df)
