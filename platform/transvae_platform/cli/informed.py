"""`transvae study plan --informed-by`: what a study's finished cells say about a plan, and what to run next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from transvae_dashboards.laws import fit_points, fits_of
from transvae_dashboards.tables import study_table
from transvae_platform.cli.render import format_count
from transvae_platform.cli.tables import console, table
from transvae_platform.errors import SpecError
from transvae_platform.fitting import Point, fit_families
from transvae_platform.fitting.answers.document import plain
from transvae_platform.fitting.planning import Cell, Forecast, NextRun, forecast, next_runs
from transvae_platform.study.plan import Plan
from transvae_platform.study.state import StudyState
from transvae_platform.study.trial import Trial

SHOWN = 8  # runs that are listed; the JSON holds all


@dataclass(frozen=True)
class Informed:
    """Forecasts of the plan's unfinished cells, and the next runs in order of usefulness."""

    study: str
    metric: str
    verdicts: Mapping[str, str]
    forecasts: tuple[Forecast, ...]
    runs: tuple[NextRun, ...]


def inform(plan: Plan, state: StudyState) -> Informed:
    """The plan in the light of a study's finished trials.

    Raises:
        SpecError: nothing of it is finished, or it trained otherwise than the plan would.
    """
    choice = fits_of(state)
    points = [p for p in fit_points(study_table(state), choice.metric, "parameters") if p.excluded is None]
    if not points:
        raise SpecError(f"--informed-by: study {state.name!r} has no finished trial yet")
    _refuse_other_training([row.trial for row in plan.rows], [t.trial for t in state.in_state("finished")], state.name)
    report = fit_families(points, metric=choice.metric, level=choice.level, margin=choice.margin)
    cells = _cells(plan, points)
    verdicts = {fit.family: fit.verdict for fit in report.families}
    return Informed(state.name, choice.metric, verdicts, forecast(cells, report), next_runs(cells, points, report))


def _cells(plan: Plan, points: Sequence[Point]) -> list[Cell]:
    """The plan's base trials, those that the informing study finished with their loss."""
    values = {(p.family, p.size, p.seed): p.value for p in points}
    return [
        Cell(row.trial.family, row.trial.size, row.trial.seed, float(row.parameters),
             row.seconds * row.trial.workers.workers / 3600,
             values.get((row.trial.family, row.trial.size, row.trial.seed)))
        for row in plan.rows
        if row.trial.variant == "base"
    ]  # fmt: skip


def _refuse_other_training(planned: Sequence[Trial], finished: Sequence[Trial], name: str) -> None:
    """A law speaks of the training that it was fitted to: sizes that both hold must train alike."""
    known = {(t.family, t.size): t for t in finished if t.variant == "base"}
    for trial in planned:
        other = known.get((trial.family, trial.size))
        if other is None:
            continue
        ours, theirs = (
            {**t.recipe.model_dump(exclude={"overrides"}), "resolution": t.resolution} for t in (trial, other)
        )
        differs = [f"{key} {theirs[key]} there, {ours[key]} here" for key in ours if ours[key] != theirs[key]]
        if differs:
            raise SpecError(
                f"--informed-by: {trial.label} trains otherwise in study {name!r} ({'; '.join(differs)}), and its law "
                "says nothing about this plan - inform it by a study of the same recipe"
            )


def informed_document(informed: Informed) -> dict[str, Any]:
    """The same for programs."""
    return {
        "study": informed.study, "metric": informed.metric, "verdicts": dict(informed.verdicts),
        "forecasts": plain([asdict(f) for f in informed.forecasts]),
        "next_runs": plain([{**asdict(r), "per_hour": r.per_hour} for r in informed.runs]),
    }  # fmt: skip


def print_informed(informed: Informed) -> None:
    """Forecasts, and the next runs."""
    out = console()
    out.print(f"\nwhat the finished trials of {informed.study} say ({informed.metric}):")
    for family, verdict in informed.verdicts.items():
        out.print(f"{family}: {verdict}", highlight=False, markup=False, soft_wrap=True)
    if informed.forecasts:
        rows = table(
            ("cell", "left"), ("parameters", "right"), ("forecast", "right"), ("interval", "right"), ("", "left")
        )
        for f in informed.forecasts:
            cell, interval = f.cell, f.interval
            rows.add_row(
                f"{cell.family}-{cell.size} seed {cell.seed}", format_count(cell.x),
                "" if f.value is None else f"{f.value:.4g}",
                "" if interval is None else f"{interval.lower:.4g} to {interval.upper:.4g}", f.refused or "",
            )  # fmt: skip
        out.print(rows)
    out.print("\nnext runs, the most useful per device-hour first:")
    rows = table(
        ("run", "left"), ("hours", "right"), ("gain's interval", "right"), ("less per hour", "right"), ("why", "left")
    )
    for run in informed.runs[:SHOWN]:
        widths = "" if run.before is None else f"{run.before:.4f} -> {run.after:.4f}"
        per_hour = "" if run.per_hour is None else f"{run.per_hour:.3g}"
        rows.add_row(f"{run.cell.family}-{run.cell.size} seed {run.cell.seed}", f"{run.cell.hours:.3g}", widths,
                     per_hour, run.why)  # fmt: skip
    out.print(rows)
