"""How long a step of a trial takes, as finished trials measured it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from transvae_platform.study.data_spec import training_sizes
from transvae_platform.study.state import StudyState, TrialState
from transvae_platform.study.trial import Trial, stable_hash


@dataclass(frozen=True)
class Rate:
    """Of one kind of work on one device."""

    seconds_per_step: float
    """Validation and checkpoints included."""
    device: str
    told: bool = False
    """Whether a tracking server said it (`tracking/rates.py`), not the journals of this home."""


def rate_key(trial: Trial) -> str:
    """The same for trials whose steps are the same work: model, images, batch, precision, losses, workers."""
    recipe = trial.recipe
    return stable_hash(
        [
            trial.model_config_values,
            training_sizes(trial.sampling, trial.resolution),
            recipe.batch_size,
            recipe.precision,
            recipe.gradient_checkpointing,
            recipe.compile,
            recipe.channels_last,
            recipe.losses.model_dump(mode="json"),
            recipe.decoder_stage is None,
            trial.workers.model_dump(mode="json"),
        ]
    )


def rate_of(trial: TrialState) -> Rate | None:
    """What a trial measured; None unless it ran to its end in one piece."""
    if trial.state != "finished" or trial.attempts != 1:
        return None
    return Rate(trial.seconds / trial.trial.recipe.steps, str(trial.started[0]["device"]))


def measured_rates(studies: Iterable[StudyState]) -> dict[str, Rate]:
    """The rates of a home by `rate_key`: the median of what was measured on the device that the work ran on last."""
    found: dict[str, list[tuple[float, Rate]]] = {}
    for study in studies:
        for trial in study.in_state("finished"):
            if (rate := rate_of(trial)) is not None:
                found.setdefault(rate_key(trial.trial), []).append((trial.at, rate))
    return {key: _newest_device(values) for key, values in found.items()}


def _newest_device(values: Sequence[tuple[float, Rate]]) -> Rate:
    """Args: values: with the time at which each was measured."""
    _, newest = max(values, key=lambda value: value[0])
    same = [rate.seconds_per_step for _, rate in values if rate.device == newest.device]
    return Rate(statistics.median(same), newest.device)
