"""The answer for size means by family: L(N) with profile intervals, comparisons, hold-outs and refusals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from transvae_platform.fitting.answers.prepare import Prepared
from transvae_platform.fitting.picture import parametric_draws
from transvae_platform.fitting.report import FitReport
from transvae_platform.fitting.runs.checks import numbers_of
from transvae_platform.fitting.runs.read import Runs, TableError, shown
from transvae_platform.fitting.study import fit_families
from transvae_platform.fitting.sweep import family_sweep
from transvae_platform.fitting.table import Point

# Columns that say under which conditions a point was measured; they travel with it into the document.
CONDITIONS = ("learning_rate", "phase", "images", "training_flops", "loss_flops", "gpu_hours")
# Axes on which seeds of one size may differ: they cannot stand in for the size.
MEASURED = ("gpu_hours", "training_flops")


def report_of(prepared: Prepared) -> FitReport:
    """The fits of all families of a table over the variable N."""
    request = prepared.request
    return fit_families(
        points_of(prepared), metric=request.loss, x_name=request.columns["N"], level=request.level,
        margin=request.margin,
    )  # fmt: skip


def points_of(prepared: Prepared) -> list[Point]:
    """One point per row; without a column `size` each count of parameters is one (or each x that is no measurement),
    without `seed` rows of a size are numbered.

    Raises:
        TableError: nothing tells the sizes apart, or a seed is no whole number.
    """
    columns, rows = prepared.runs.columns, len(prepared.runs)
    families = [shown(v) for v in columns["family"].tolist()] if "family" in columns else ["all"] * rows
    x = prepared.columns["N"].tolist()
    sizes = _sizes(prepared)
    seeds = _seeds(prepared.runs) if "seed" in columns else _numbered(families, sizes)
    return [
        Point(family, size, seed, value, loss)
        for family, size, seed, value, loss in zip(families, sizes, seeds, x, prepared.loss.tolist(), strict=True)
    ]


def _sizes(prepared: Prepared) -> list[str]:
    runs, axis = prepared.runs, prepared.request.columns["N"]
    if "size" in runs.columns:
        return [shown(v) for v in runs.columns["size"].tolist()]
    if "parameters" in runs.columns:
        return [shown(v) for v in numbers_of(runs, "parameters").tolist()]
    if measured := [name for name in MEASURED if name in axis]:
        raise TableError(
            f"{runs.source}: seeds of one size differ in {measured[0]}, and no column says which rows are one size - "
            "give size or parameters"
        )
    return [shown(v) for v in prepared.columns["N"].tolist()]


def answer_families(prepared: Prepared, report: FitReport) -> dict[str, Any]:
    """The report's JSON, the predictions that were asked for, and the conditions of every point."""
    request, columns = prepared.request, prepared.runs.columns
    asked = [
        {"family": fit.family, **_prediction(fit.predict(x, far=request.far).__dict__)}
        for fit in report.families
        for x in request.at
    ]
    known = [name for name in CONDITIONS if name in columns]
    conditions = [{name: columns[name][i] for name in known} for i in range(len(prepared.runs))]
    draws = {fit.family: parametric_draws(fit, request.seed) for fit in report.families}
    return {
        **report.to_dict(), "predictions": asked, "conditions": conditions, "cautions": _cautions(prepared),
        "parametric_bootstrap": draws,
        "delta_sweep": {fit.family: [asdict(s) for s in family_sweep(fit, request.delta)] for fit in report.families},
    }  # fmt: skip


def _cautions(prepared: Prepared) -> list[str]:
    """Differences between runs that a law over size reads as scaling, although nobody chose them for it."""
    found = []
    length = ("images", "images seen") if "images" in prepared.runs.columns else ("step", "steps")
    for name, words in (length, ("learning_rate", "learning rates at their last point")):
        if name not in prepared.runs.columns or prepared.request.columns["N"] == name:
            continue
        values = numbers_of(prepared.runs, name)
        if len(np.unique(values[np.isfinite(values)])) > 1:
            low, high = np.nanmin(values), np.nanmax(values)
            found.append(f"the runs differ in {words} ({low:.4g} to {high:.4g}): the law mixes that with size")
    return found


def _prediction(values: dict[str, Any]) -> dict[str, Any]:
    refusal = values["refusal"]
    return {**values, "refusal": None if refusal is None else refusal.sentence}


def _seeds(runs: Runs) -> list[int]:
    """TableError unless every seed is a whole number."""
    seeds: list[int] = []
    for row, value in zip(runs.numbers.tolist(), runs.column("seed").tolist(), strict=True):
        if not isinstance(value, int) and not (isinstance(value, float) and value.is_integer()):
            raise TableError(f"{runs.source}: row {row} has no whole number as its seed, so its run cannot be told")
        seeds.append(int(value))
    return seeds


def _numbered(families: Sequence[str], sizes: Sequence[str]) -> list[int]:
    count: dict[tuple[str, str], int] = defaultdict(int)
    seeds = []
    for key in zip(families, sizes, strict=True):
        seeds.append(count[key])
        count[key] += 1
    return seeds
