"""What a generator's trial costs: the part of `plan.py` that autoencoders do not share."""

from __future__ import annotations

from functools import lru_cache

from transvae.generation.accounting import count_activations, count_generator
from transvae.generation.config import DiTConfig
from transvae_platform.study.grid import Trial

DOPRI5_EVALUATIONS = 100  # per sample (assumption: it chooses as many steps as its tolerances ask for)
INCEPTION_FLOPS = 11.4e9  # one image of 299 x 299 pixels through Inception v3 (5.7 G multiply-adds, published)

_count = lru_cache(maxsize=None)(count_generator)
_activations = lru_cache(maxsize=None)(
    lambda config, bf16, checkpointing: count_activations(config, bf16=bf16, checkpointing=checkpointing)
)


def generator_cost(trial: Trial) -> dict[str, float]:
    """Parameters of a trial's generator, and FLOPs per latent, by name."""
    counted = _count(DiTConfig(**trial.model_config_values))
    return {
        "parameters": counted.parameters,
        "forward_flops": counted.forward_flops,
        "training_flops": counted.training_flops,
    }


def generator_activations(trial: Trial) -> int:
    """Bytes that its training keeps per latent."""
    recipe = trial.recipe
    kept: int = _activations(
        DiTConfig(**trial.model_config_values), recipe.precision == "bf16", recipe.gradient_checkpointing
    )
    return kept


def sampling_flops(trial: Trial, until: int | None = None) -> float:
    """Of the samples that are drawn and measured along its training; their decoding is not counted.

    The last step is always one of the validations.
    """
    assert trial.generator is not None
    curve, steps = trial.generator.curve, trial.recipe.steps if until is None else until
    if curve is None:
        return 0.0
    times = sum(trial.evaluation.due(step) or step == trial.recipe.steps for step in _looked_at(trial, steps))
    sampler = trial.generator.sampler
    evaluations = sampler.times - 1 if sampler.method == "euler" else DOPRI5_EVALUATIONS
    each = evaluations * (2 if sampler.guidance else 1) * generator_cost(trial)["forward_flops"] + INCEPTION_FLOPS
    return float(times * curve.samples * each)


def _looked_at(trial: Trial, steps: int) -> set[int]:
    every = trial.evaluation.every
    return {*range(every, steps + 1, every), *(step for step in trial.evaluation.at if step <= steps), steps}
