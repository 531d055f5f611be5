"""What a generator's trial costs: the part of `plan.py` that autoencoders do not share."""

from __future__ import annotations

from transvae.config import AutoencoderConfig
from transvae.generation.config import DiTConfig
from transvae.generation.text_config import TextDiTConfig
from transvae.generation.text_shapes import text_shape
from transvae_platform.study.counts import Count, counts
from transvae_platform.study.downstream_spec import Generator
from transvae_platform.study.model_counts import count_autoencoder
from transvae_platform.study.trial import Trial

DOPRI5_EVALUATIONS = 100  # per sample (assumption: it chooses as many steps as its tolerances ask for)
DECODER_FLOPS = 252.2e9 / 256**2  # of another tokenizer's decoder per pixel: VA-VAE's (measured; else assumption)
INCEPTION_FLOPS = 11.4e9  # one image of 299 x 299 pixels through Inception v3 (5.7 G multiply-adds, published)


def network_of(trial: Trial) -> DiTConfig | TextDiTConfig:
    """The configuration of a trial's generator."""
    assert trial.generator is not None
    values = trial.model_config_values
    return TextDiTConfig(**values) if trial.generator.text else DiTConfig(**values)


def _tokens(trial: Trial) -> int:
    """Of text, that it reads per latent."""
    assert trial.generator is not None
    return text_shape(trial.generator.text.encoder)[1] if trial.generator.text else 0


def generator_cost(trial: Trial) -> dict[str, float]:
    """Parameters of a trial's generator, and FLOPs per latent, by name; a text encoder is not counted."""

    def count() -> Count:
        from transvae.generation.accounting import count_generator

        found = count_generator(network_of(trial), _tokens(trial))
        return found.parameters, found.forward_flops, found.training_flops

    found = counts().get("generator", [trial.model_config_values, _tokens(trial)], count)
    return dict(zip(("parameters", "forward_flops", "training_flops"), found, strict=True))


def generator_activations(trial: Trial) -> int:
    """Bytes that its training keeps per latent."""
    bf16, checkpointing = trial.recipe.precision == "bf16", trial.recipe.gradient_checkpointing

    def count() -> Count:
        from transvae.generation.accounting import count_activations

        return (count_activations(network_of(trial), _tokens(trial), bf16=bf16, checkpointing=checkpointing),)

    given = [trial.model_config_values, _tokens(trial), bf16, checkpointing]
    return counts().get("generator activations", given, count)[0]


def sampling_flops(trial: Trial, until: int | None = None, decoding: float = 0.0) -> float:
    """Of the samples that are drawn, decoded and measured along its training.

    The last step is always one of the validations.

    Args:
        decoding: FLOPs of one latent's (`decoding_flops`).
    """
    assert trial.generator is not None
    curve, steps = trial.generator.curve, trial.recipe.steps if until is None else until
    if curve is None:
        return 0.0
    times = sum(trial.evaluation.due(step) or step == trial.recipe.steps for step in _looked_at(trial, steps))
    each = _evaluations(trial.generator) * generator_cost(trial)["forward_flops"] + INCEPTION_FLOPS + decoding
    return float(times * curve.samples * each)


def _evaluations(of: Generator) -> int:
    """Of the network per sample; two for a guided one, three for an edit."""
    sampler, text = of.sampler, of.text
    if text and text.objective == "noise":
        steps = text.noise.sampled
    else:
        steps = sampler.times - 1 if sampler.method == "euler" else DOPRI5_EVALUATIONS
    if text and text.editing and max(text.guidance, text.editing.guidance) > 1:
        return steps * 3  # nothing, the source, the source and the text
    guided = text.guidance > 1 if text else sampler.guidance is not None
    return steps * (2 if guided else 1)


def decoding_flops(trial: Trial, autoencoder: Trial | None) -> float:
    """Of one latent of a generator's trial, decoded by its autoencoder or, without one, another tokenizer."""
    if autoencoder is None:
        return DECODER_FLOPS * trial.resolution**2
    config = AutoencoderConfig.from_dict(autoencoder.model_config_values)
    return count_autoencoder(config, trial.resolution).decoder_flops


def _looked_at(trial: Trial, steps: int) -> set[int]:
    every = trial.evaluation.every
    return {*range(every, steps + 1, every), *(step for step in trial.evaluation.at if step <= steps), steps}
