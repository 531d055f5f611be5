"""What finished cells of a study say about the others, and which run to pay for next.

The headline is the gain of each family per tenfold x, because it is the sharpest statement that few sizes support.
Its interval has the width 2 t(df) sqrt(v_first + v_last) / decades with the variance v = tau^2 + sd^2 / seeds of a
size mean: sd is the noise of seeds, tau what sizes deviate from a law by themselves. tau and df are those of the
variance that the fit uses, pooled, or a family's own where it scatters more than the others. A further seed of an end
lowers v, a size beyond the ends adds decades, any further size adds a degree of freedom. Where sd is unknown, three
seeds of the smallest size of each family come first: they are the cheapest runs, and they fix the error budget. A
family of fewer than two sizes, or of unknown scatter, has no interval at all, so its next size comes before any
narrowing of the others.

What is finished and how it scatters comes from all points of the informing study; a plan gives only the candidates.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from scipy.special import stdtrit

from transvae_platform.fitting.intervals import Interval, new_size_interval
from transvae_platform.fitting.report import FamilyFit, FitReport
from transvae_platform.fitting.table import Point

BUDGET_SEEDS = 3
PARAMETERS = 3  # of a law: sizes beyond them are degrees of freedom
ENDS = 2  # sizes that a gain needs


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
    """Seeds of each size by family, {family: {x: seeds}}, and the variance model.

    tau2: by family, those whose scatter is known; sharing: by family, whose sizes its degrees of freedom come from.
    """

    seeds: Mapping[str, Mapping[float, int]]
    tau2: Mapping[str, float]
    sharing: Mapping[str, tuple[str, ...]]
    sd2: float
    level: float

    def with_run(self, family: str, x: float) -> _Design:
        own = {**self.seeds[family], x: self.seeds[family].get(x, 0) + 1}
        return replace(self, seeds={**self.seeds, family: own})

    def judged(self, family: str) -> bool:
        """Whether the family has a gain with an interval."""
        return family in self.tau2 and len(self.seeds[family]) >= ENDS

    def width(self) -> float:
        """Mean over the families with a gain and an interval, of which there is at least one."""
        widths = [self._width(family) for family in self.seeds if self.judged(family)]
        return sum(widths) / len(widths)

    def _width(self, family: str) -> float:
        sizes, df = self.seeds[family], sum(max(len(self.seeds[f]) - PARAMETERS, 0) for f in self.sharing[family])
        first, last = min(sizes), max(sizes)
        noise = 2 * self.tau2[family] + self.sd2 * (1 / sizes[first] + 1 / sizes[last])
        return 2 * float(stdtrit(df, (1 + self.level) / 2)) * math.sqrt(noise) / math.log10(last / first)


def forecast(cells: Sequence[Cell], report: FitReport) -> tuple[Forecast, ...]:
    """Every unfinished cell, from the report of the finished ones."""
    known = {fit.family: fit for fit in report.families}
    sd2 = _seed_variance(report)
    return tuple(_forecast(cell, known.get(cell.family), sd2, report.level) for cell in cells if cell.value is None)


def next_runs(cells: Sequence[Cell], finished: Sequence[Point], report: FitReport) -> tuple[NextRun, ...]:
    """All runs of the plan worth considering, the most useful first: unfinished cells, and a further seed of each size.

    finished: the points that the report was made of; the sizes and seeds among them may exceed the plan's.
    """
    seeds = _finished(cells, finished)
    candidates = _candidates(cells, seeds)
    smallest = _missing_budget(candidates, cells, seeds)
    if smallest:
        return tuple(
            NextRun(cell, f"seed {cell.seed} of the smallest size fixes the error budget", None, None)
            for cell in smallest
        )
    new = [cell for cell in candidates if cell.x not in seeds[cell.family]]
    design = _design(seeds, report)
    if not any(map(design.judged, seeds)):
        left = sorted(new, key=lambda c: c.hours)
        return tuple(NextRun(cell, "a further size: no family has four yet, so nothing can be judged", None, None)
                     for cell in left)  # fmt: skip
    first = sorted((c for c in new if not design.judged(c.family)), key=lambda c: c.hours)
    begun = [NextRun(c, _unjudged(len(seeds[c.family])), None, None) for c in first]
    before = design.width()
    runs = [
        NextRun(cell, "a new size" if cell in new else f"seed {cell.seed} of a finished size", before,
                design.with_run(cell.family, cell.x).width())
        for cell in candidates
        if design.judged(cell.family)
    ]  # fmt: skip
    return (*begun, *sorted(runs, key=lambda run: -(run.per_hour or 0.0)))


def _unjudged(sizes: int) -> str:
    if sizes < ENDS:
        return "a size of a family that has fewer than two, hence no gain yet"
    return "a size of a family of unknown scatter, hence no interval for its gain"


def _forecast(cell: Cell, fit: FamilyFit | None, sd2: float | None, level: float) -> Forecast:
    if fit is None:
        return Forecast(cell, None, None, f"no finished run of {cell.family}")
    found = fit.predict(cell.x)
    if found.value is None:
        return Forecast(cell, None, None, found.refusal.sentence if found.refusal else "no law")
    if fit.problem is None or fit.alphas is None or fit.variance is None:
        return Forecast(cell, found.value, None, "no variance is known, so no interval")
    # the scatter is that of size means: a single run keeps the whole noise of its seed
    averaged = sum(1 / len(size.values) for size in fit.sizes) / fit.n_sizes
    single = replace(fit.variance, s2=fit.variance.s2 + (sd2 or 0.0) * (1 - averaged))
    interval = new_size_interval(fit.problem, fit.alphas, cell.x, found.value, single, level)
    return Forecast(cell, found.value, interval, None)


def _finished(cells: Sequence[Cell], points: Sequence[Point]) -> dict[str, dict[float, set[int]]]:
    """{family: {x: finished seeds}} of the study and the plan; families without any are empty."""
    found: dict[str, dict[float, set[int]]] = {cell.family: {} for cell in cells}
    for point in points:
        found.setdefault(point.family, {}).setdefault(float(point.x), set()).add(point.seed)
    return found


def _candidates(cells: Sequence[Cell], finished: Mapping[str, Mapping[float, set[int]]]) -> list[Cell]:
    """One run per family and size of the plan: its first unfinished seed, or a seed beyond all."""
    groups: dict[tuple[str, float], list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[cell.family, cell.x].append(cell)
    chosen = []
    for (family, x), group in groups.items():
        done = finished[family].get(x, set())
        ordered = sorted(group, key=lambda c: c.seed)
        further = replace(ordered[-1], seed=max(ordered[-1].seed, *done, -1) + 1, value=None)
        chosen.append(next((c for c in ordered if c.seed not in done), further))
    return chosen


def _missing_budget(
    candidates: Sequence[Cell], cells: Sequence[Cell], finished: Mapping[str, Mapping[float, set[int]]]
) -> list[Cell]:
    """The next seed of each family's smallest size, while no size of the family has BUDGET_SEEDS finished seeds.

    A plan without that size cannot buy it: then its other runs are judged with the scatter of sizes alone.
    """
    smallest = {
        family: min([*sizes, *(c.x for c in cells if c.family == family)])
        for family, sizes in finished.items()
        if max(map(len, sizes.values()), default=0) < BUDGET_SEEDS
    }
    return sorted((c for c in candidates if smallest.get(c.family) == c.x), key=lambda c: c.hours)


def _seed_variance(report: FitReport) -> float | None:
    """Relative variance of a seed about its size's mean, pooled over families; None where every size has one seed."""
    known = [(f.seed_sd, sum(len(s.values) - 1 for s in f.sizes)) for f in report.families if f.seed_sd is not None]
    return sum(sd**2 * n for sd, n in known) / sum(n for _, n in known) if known else None


def _design(finished: Mapping[str, Mapping[float, set[int]]], report: FitReport) -> _Design:
    """Without repeated seeds all scatter counts as that of sizes."""
    seeds = {family: {x: len(done) for x, done in sizes.items()} for family, sizes in finished.items()}
    sd2, spread, known = _seed_variance(report) or 0.0, report.variances.spread, report.variances
    fitted = {fit.family: fit for fit in report.families if fit.family in known.own}
    pool = tuple(f for f in seeds if f not in spread or not spread[f].outside)
    tau2, sharing = {}, {}
    for family in seeds:
        variance = known.of(family)
        if variance is None:
            continue
        sharing[family] = (family,) if variance.kind == "own" else pool
        averaged = [1 / len(size.values) for f in sharing[family] if f in fitted for size in fitted[f].sizes]
        tau2[family] = max(variance.s2 - sd2 * sum(averaged) / len(averaged), 0.0)
    return _Design(seeds, tau2, sharing, sd2, report.level)
