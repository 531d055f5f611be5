"""The scaling laws of a study: which trials enter a fit, and the fits over parameters and over training FLOPs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from transvae_dashboards.tables import FAMILIES, TrialRow, study_table
from transvae_platform.fitting import FamilyFit, FitReport, Point, fit_families
from transvae_platform.study.spec import Fits
from transvae_platform.study.state import StudyState

XName = Literal["parameters", "training_flops"]
X_NAMES: tuple[XName, ...] = ("parameters", "training_flops")


def fit_study(state: StudyState) -> dict[str, FitReport]:
    """The fits of a study by the name of x: `parameters` and `training_flops`.

    Only finished trials of the base variant are fitted; every other one is listed as excluded with its reason.
    """
    choice = fits_of(state)
    rows = study_table(state)
    return {
        x_name: fit_families(fit_points(rows, choice.metric, x_name), metric=choice.metric, x_name=x_name,
                             level=choice.level, margin=choice.margin)
        for x_name in X_NAMES
    }  # fmt: skip


def fits_of(state: StudyState) -> Fits:
    """The study's `fits` section; the defaults before anything was submitted."""
    return Fits.model_validate(state.spec.get("fits", {}))


def fit_points(rows: Sequence[TrialRow], metric: str, x_name: XName) -> list[Point]:
    """One point per trial, the excluded ones with their reason."""
    points = []
    for row in rows:
        value = row.metric(metric)
        x = float(row.parameters if x_name == "parameters" else row.training_flops)
        points.append(Point(row.family, row.size, row.seed, x, math.nan if value is None else value, why_excluded(row)))
    return points


def why_excluded(row: TrialRow) -> str | None:
    """Why a trial is not fitted, or None."""
    if row.variant != "base":
        return f"variant {row.variant!r} is another model than the family's base"
    match row.state:
        case "finished":
            return None
        case "failed":
            return f"failed at step {row.steps_done} of {row.steps}: {row.reason or 'no reason recorded'}"
        case "stopped":
            return f"ended at step {row.steps_done} of {row.steps}: {row.reason}"
        case "running":
            return f"not finished: step {row.steps_done} of {row.steps}"
        case _:
            return "not started"


def in_order(report: FitReport) -> list[FamilyFit]:
    """The families of a report in the order of every table and chart."""
    return sorted(report.families, key=lambda fit: FAMILIES.index(fit.family))


def cautions(state: StudyState) -> list[str]:
    """What makes the fitted trials unequal in more than their size; a law reads such a difference as scaling."""
    fitted = [trial for trial in state.autoencoders if (trial.state, trial.trial.variant) == ("finished", "base")]
    found = []
    lengths = sorted({trial.trial.recipe.steps * trial.trial.recipe.batch_size for trial in fitted})
    if len(lengths) > 1:
        found.append(
            f"The fitted trials saw between {lengths[0]:,} and {lengths[-1]:,} images each: the laws mix model size "
            "with length of training."
        )
    codes = sorted({str(start["lineage"]["code"]) for trial in fitted for start in trial.started})
    if len(codes) > 1:
        found.append(f"The fitted trials were trained under {len(codes)} code versions: {', '.join(codes)}.")
    guarded = [
        f"{trial.trial.label} seed {trial.trial.seed} ({trial.skipped} skipped, {len(trial.rewound)} taken back)"
        for trial in fitted
        if trial.skipped or trial.rewound
    ]
    if guarded:
        found.append(
            f"The guard against bad losses skipped updates or took training back to a checkpoint: {', '.join(guarded)}."
        )
    return found
