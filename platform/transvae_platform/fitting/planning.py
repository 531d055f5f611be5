"""What finished cells of a study say about the others, and which run to pay for next.

The headline is the gain of each family per tenfold x, because it is the sharpest statement that few sizes support.
Its interval has the width 2 t(df) sqrt(v_first + v_last) / decades with the variance v = tau^2 + sd^2 / seeds of a
size mean: sd is the noise of seeds, tau what sizes deviate from a law by themselves. A further seed of an end lowers
v, a size beyond the ends adds decades, any further size adds a degree of freedom. Where sd is unknown, three seeds of
the smallest size of each family come first: they are the cheapest runs, and they fix the error budget.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

from transvae_platform.fitting.intervals import Interval, new_size_interval
from transvae_platform.fitting.report import FamilyFit, FitReport

BUDGET_SEEDS = 3
PARAMETERS = 3  # of a law: sizes beyond them are degrees of freedom


@dataclass(frozen=True)
class Cell:
    """One run of a plan; hours: device-hours that it costs; value: its loss, None while it is not finished."""

    family: str
    size: str
    seed: int
    x: float
    hours: float
    value: float | None = None


@dataclass(frozen=True)
class Forecast:
    """The loss that a cell will probably have, with its interval, or why none is given."""

    cell: Cell
    value: float | None
    interval: Interval | None
    refused: str | None


@dataclass(frozen=True)
class NextRun:
    """One run that could be done; widths of the headline, mean over families; per_hour: what an hour takes off it."""

    cell: Cell
    why: str
    before: float | None
    after: float | None

    @property
    def per_hour(self) -> float | None:
        if self.before is None or self.after is None:
            return None
        return (self.before - self.after) / self.cell.hours


@dataclass(frozen=True)
class _Design:
    """Seeds of each size by family, {family: {x: seeds}}, and the variance model."""

    seeds: Mapping[str, Mapping[float, int]]
    tau2: float
    sd2: float
    level: float

    def with_run(self, family: str, x: float) -> _Design:
        own = {**self.seeds[family], x: self.seeds[family].get(x, 0) + 1}
        return _Design({**self.seeds, family: own}, self.tau2, self.sd2, self.level)

    def width(self) -> float:
        """Mean over the families with two sizes or more."""
        df = sum(max(len(sizes) - PARAMETERS, 0) for sizes in self.seeds.values())
        t = float(stdtrit(df, (1 + self.level) / 2))
        widths = []
        for sizes in self.seeds.values():
            if len(sizes) >= 2:
                first, last = min(sizes), max(sizes)
                noise = 2 * self.tau2 + self.sd2 * (1 / sizes[first] + 1 / sizes[last])
                widths.append(2 * t * math.sqrt(noise) / math.log10(last / first))
        return sum(widths) / len(widths)


def forecast(cells: Sequence[Cell], report: FitReport) -> tuple[Forecast, ...]:
    """Every unfinished cell, from the report of the finished ones."""
    known = {fit.family: fit for fit in report.families}
    return tuple(_forecast(cell, known.get(cell.family), report.level) for cell in cells if cell.value is None)


def next_runs(cells: Sequence[Cell], report: FitReport) -> tuple[NextRun, ...]:
    """All runs worth considering, the most useful first: unfinished cells, and a further seed of each size."""
    candidates = _candidates(cells)
    smallest = _missing_budget(cells, candidates)
    if smallest:
        return tuple(
            NextRun(cell, f"seed {cell.seed} of the smallest size fixes the error budget", None, None)
            for cell in smallest
        )
    design = _design(cells, report)
    if design is None:
        left = sorted((c for c in candidates if _is_new_size(c, cells)), key=lambda c: c.hours)
        return tuple(NextRun(cell, "a further size: no family has four yet, so nothing can be judged", None, None)
                     for cell in left)  # fmt: skip
    before = design.width()
    runs = []
    for cell in candidates:
        new = _is_new_size(cell, cells)
        runs.append(NextRun(cell, "a new size" if new else f"seed {cell.seed} of a finished size", before,
                            design.with_run(cell.family, cell.x).width()))  # fmt: skip
    return tuple(sorted(runs, key=lambda run: -(run.per_hour or 0.0)))


def _forecast(cell: Cell, fit: FamilyFit | None, level: float) -> Forecast:
    if fit is None:
        return Forecast(cell, None, None, f"no finished run of {cell.family}")
    found = fit.predict(cell.x)
    if found.value is None:
        return Forecast(cell, None, None, found.refusal.sentence if found.refusal else "no law")
    if fit.problem is None or fit.alphas is None or fit.variance is None:
        return Forecast(cell, found.value, None, "no variance is known, so no interval")
    interval = new_size_interval(fit.problem, fit.alphas, cell.x, found.value, fit.variance, level)
    return Forecast(cell, found.value, interval, None)


def _candidates(cells: Sequence[Cell]) -> list[Cell]:
    """One run per family and size: the first unfinished seed of the plan, or a seed beyond it."""
    groups: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[cell.family, cell.size].append(cell)
    chosen = []
    for group in groups.values():
        ordered = sorted(group, key=lambda c: c.seed)
        last = ordered[-1]
        further = Cell(last.family, last.size, last.seed + 1, last.x, last.hours)
        chosen.append(next((c for c in ordered if c.value is None), further))
    return chosen


def _missing_budget(cells: Sequence[Cell], candidates: Sequence[Cell]) -> list[Cell]:
    """The next seed of each family's smallest size, while no size of the family has BUDGET_SEEDS finished seeds."""
    finished: dict[str, dict[float, int]] = defaultdict(lambda: defaultdict(int))
    for cell in cells:
        finished[cell.family][cell.x] += cell.value is not None
    wanted = [f for f, sizes in finished.items() if max(sizes.values()) < BUDGET_SEEDS]
    smallest = {f: min(finished[f]) for f in wanted}
    return sorted((c for c in candidates if smallest.get(c.family) == c.x), key=lambda c: c.hours)


def _is_new_size(cell: Cell, cells: Sequence[Cell]) -> bool:
    return not any((c.family, c.size) == (cell.family, cell.size) and c.value is not None for c in cells)


def _design(cells: Sequence[Cell], report: FitReport) -> _Design | None:
    """None while no law leaves a degree of freedom."""
    seeds: dict[str, dict[float, int]] = {cell.family: {} for cell in cells}
    for cell in cells:
        if cell.value is not None:
            seeds[cell.family][cell.x] = seeds[cell.family].get(cell.x, 0) + 1
    fits = [f for f in report.families if f.solution is not None and f.n_sizes > PARAMETERS]
    df = sum(f.n_sizes - PARAMETERS for f in fits)
    known = [(f.seed_sd, sum(len(s.values) - 1 for s in f.sizes)) for f in report.families if f.seed_sd is not None]
    if df == 0 or not known:
        return None
    sd2 = sum(sd**2 * n for sd, n in known) / sum(n for _, n in known)
    s2 = sum(f.solution.sse for f in fits if f.solution is not None) / df
    averaged = [1 / len(size.values) for f in fits for size in f.sizes]
    return _Design(seeds, max(s2 - sd2 * sum(averaged) / len(averaged), 0.0), sd2, report.level)
