"""When trials and a study will be done, from what their own journals measured; light, unlike a plan."""

from __future__ import annotations

import statistics

from transvae_platform.study.scheduling import Work
from transvae_platform.study.simulation import makespan
from transvae_platform.study.state import StudyState, TrialState


def seconds_left(state: StudyState) -> dict[str, float | None]:
    """What each running or queued trial has still to compute, by trial id; None where nothing measured says it.

    A running trial goes on at its own pace. One that has not run takes as long per FLOP as the median of those that
    did on the same device.
    """
    pace: dict[str, list[float]] = {}
    for trial in state.trials.values():
        if trial.seconds_per_step and (flops := _flops_per_step(trial)):
            pace.setdefault(_kind(trial), []).append(trial.seconds_per_step * _workers(trial) / flops)
    left: dict[str, float | None] = {}
    for trial in state.trials.values():
        if trial.state not in ("running", "queued"):
            continue
        per_step = trial.seconds_per_step
        if per_step is None and _kind(trial) in pace and (flops := _flops_per_step(trial)):
            per_step = statistics.median(pace[_kind(trial)]) * flops / _workers(trial)
        left[trial.trial.id] = None if per_step is None else per_step * (trial.trial.recipe.steps - trial.step)
    return left


def study_seconds_left(state: StudyState) -> float | None:
    """Until the last trial ends, if as many devices stay busy as now; None where nothing runs or was measured."""
    left = seconds_left(state)
    running = state.in_state("running")
    if not running or any(seconds is None for seconds in left.values()):
        return None
    slots: dict[str, int] = {}
    for trial in running:
        slots[_kind(trial)] = slots.get(_kind(trial), 0) + _workers(trial)
    trials = running + state.in_state("queued")
    works = [Work(each.trial.id, _workers(each), left[each.trial.id] or 0.0, _kind(each)) for each in trials]
    return makespan(works, slots, [work.id for work in works])


def _kind(trial: TrialState) -> str:
    return trial.trial.workers.device


def _workers(trial: TrialState) -> int:
    return trial.trial.workers.workers


def _flops_per_step(trial: TrialState) -> float:
    return trial.cost.get("training_flops", 0.0) * trial.trial.recipe.batch_size
