"""What a generator's trial costs: the part of `plan.py` that autoencoders do not share."""

from __future__ import annotations

from transvae.generation.config import DiTConfig
from transvae_platform.study.counts import Count, counts
from transvae_platform.study.grid import Trial

DOPRI5_EVALUATIONS = 100  # per sample (assumption: it chooses as many steps as its tolerances ask for)
INCEPTION_FLOPS = 11.4e9  # one image of 299 x 299 pixels through Inception v3 (5.7 G multiply-adds, published)
DTYPE_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}


def generator_cost(trial: Trial) -> dict[str, float]:
    """Parameters of a trial's generator, and FLOPs per latent, by name."""

    def count() -> Count:
        from transvae.generation.accounting import count_generator

        found = count_generator(DiTConfig(**trial.model_config_values))
        return found.parameters, found.forward_flops, found.training_flops

    found = counts().get("generator", trial.model_config_values, count)
    return dict(zip(("parameters", "forward_flops", "training_flops"), found, strict=True))


def generator_activations(trial: Trial) -> int:
    """Bytes that its training keeps per latent."""
    bf16, checkpointing = trial.recipe.precision == "bf16", trial.recipe.gradient_checkpointing

    def count() -> Count:
        from transvae.generation.accounting import count_activations

        config = DiTConfig(**trial.model_config_values)
        return (count_activations(config, bf16=bf16, checkpointing=checkpointing),)

    return counts().get("generator activations", [trial.model_config_values, bf16, checkpointing], count)[0]


def latents_key(trial: Trial) -> str:
    """Equal for generators that train on the same latents."""
    assert trial.generator is not None
    return trial.generator.model_dump_json(include={"autoencoder", "tokenizer", "latents"})


def latents_bytes(trial: Trial) -> int:
    """What a generator's latents of one image take on disk: those of the image and those of its mirror image."""
    assert trial.generator is not None
    shape = DiTConfig(**trial.model_config_values)
    return 2 * shape.latent_dim * shape.latent_size**2 * DTYPE_BYTES[trial.generator.latents.dtype]


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
