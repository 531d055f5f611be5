"""When trials and a study will be done, from what their own journals measured; light, unlike a plan."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

from transvae_platform.study.state import StudyState, TrialState


def makespan(work: Iterable[tuple[str, int, float]], slots: Mapping[str, int]) -> float:
    """Seconds until all is done: pieces (device, how many, seconds) in order, each as soon as its slots are free."""
    pieces = list(work)
    finish = 0.0
    for kind in {device for device, _, _ in pieces}:
        free = [0.0] * max(1, slots.get(kind, 0))
        for _, asked, seconds in (piece for piece in pieces if piece[0] == kind):
            free.sort()
            taken = min(asked, len(free))
            start = free[taken - 1]
            free[:taken] = [start + seconds] * taken
        finish = max(finish, *free)
    return finish


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
    return makespan([(_kind(trial), _workers(trial), left[trial.trial.id] or 0.0) for trial in trials], slots)


def _kind(trial: TrialState) -> str:
    return trial.trial.workers.device


def _workers(trial: TrialState) -> int:
    return trial.trial.workers.workers


def _flops_per_step(trial: TrialState) -> float:
    return trial.cost.get("training_flops", 0.0) * trial.trial.recipe.batch_size
