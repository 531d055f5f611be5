"""A study as a table of runs, as `transvae fit` reads it: a row per validation of every trial, with its conditions.

training_flops are those of encoder and decoder; what the networks of the losses cost stands in loss_flops, a column of
its own: it is the same for every family and would distort small models most.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from transvae_dashboards.tables import ordered
from transvae_platform.fitting.runs.read import Runs, runs_of
from transvae_platform.study.costs import losses_flops
from transvae_platform.study.state import StudyState, TrialState
from transvae_platform.study.trial import Trial
from transvae_platform.training.schedule import learning_rate


def study_runs(state: StudyState) -> Runs | None:
    """None before the first validation. Metrics keep their journal names, e.g. `val/l1`."""
    rows = [row for trial in ordered(state.autoencoders) for row in _rows(trial)]
    return runs_of(rows, f"study {state.name}") if rows else None


def _rows(state: TrialState) -> Iterator[dict[str, Any]]:
    trial, recipe = state.trial, state.trial.recipe
    codes = sorted({str(start["lineage"]["code"]) for start in state.started})
    hours = state.seconds * trial.workers.workers / 3600
    for step, record in sorted(state.validation.items()):
        images = step * recipe.batch_size
        yield {
            "family": trial.family, "size": trial.size, "seed": trial.seed, "variant": trial.variant, "run": trial.id,
            "step": step, "status": state.state,
            "parameters": state.cost["parameters"],
            "training_flops": state.cost.get("training_flops", float("nan")) * images,
            "loss_flops": losses_flops(trial, step), "images": images,
            "gpu_hours": hours * step / max(state.step, 1),
            "learning_rate": learning_rate(recipe, step - 1), "warmup_steps": recipe.warmup_steps,
            "schedule": recipe.schedule, "phase": _phase(trial, step), "resolution": trial.resolution,
            "ema": recipe.ema_decay, "data": trial.data_fingerprint, "code": ", ".join(codes), **record["metrics"],
        }  # fmt: skip


def _phase(trial: Trial, step: int) -> str:
    recipe = trial.recipe
    if step > recipe.stage_edge:
        warm = recipe.decoder_stage.warmup_steps if recipe.decoder_stage else 0
        return "warmup" if step - recipe.stage_edge <= warm else "stage 2"
    return "warmup" if step <= recipe.warmup_steps else "stage 1"
