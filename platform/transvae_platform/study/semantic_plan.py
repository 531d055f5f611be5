"""What a trial on a vision network costs beside its model: the part of `plan.py` that others do not share."""

from __future__ import annotations

from transvae.config import AutoencoderConfig
from transvae.representation import RepresentationEncoder
from transvae_platform.study.counts import Count, counts
from transvae_platform.study.data_spec import training_sizes
from transvae_platform.study.trial import Trial


def has_pixels(trial: Trial) -> bool:
    """Whether its model decodes to images."""
    return _config(trial).has_pixels


def pixel_steps(trial: Trial, until: int | None = None) -> int:
    """Steps in which it does: those of PS-VAE's second stage, or all."""
    recipe, steps = trial.recipe, trial.recipe.steps if until is None else until
    if not has_pixels(trial):
        return 0
    assert recipe.semantic is not None
    return max(0, steps - recipe.stage_edge) if recipe.semantic.pixel_stage else steps


def semantic_losses_flops(trial: Trial, until: int | None = None) -> float:
    """Of the frozen twin, which is asked for features while the model's own network is trained, and of LPIPS."""
    semantic, config, steps = trial.recipe.semantic, _config(trial), pixel_steps(trial, until)
    assert semantic is not None
    total = 0.0
    for size, share in training_sizes(trial.sampling, trial.resolution):
        each = _twin_flops(_encoder(config), size) if config.has_semantics else 0
        each += lpips_flops(size, False) if semantic.lpips else 0
        total += share * trial.recipe.batch_size * steps * each
    return total


def lpips_flops(size: int, adaptive: bool) -> int:
    """Of LPIPS per image, with the gradient that an adaptive weight takes."""

    def count() -> Count:
        from transvae.losses.cost import lpips_flops

        return (lpips_flops(size, adaptive),)

    return counts().get("lpips", [size, adaptive], count)[0]


def twin_bytes(trial: Trial) -> int:
    """Of the frozen twin's weights in fp32."""
    network = _encoder(_config(trial)).network

    def count() -> Count:
        from transvae.losses.features import build_features

        return (4 * sum(parameter.numel() for parameter in build_features(network).parameters()),)

    return counts().get("twin bytes", network, count)[0]


def _twin_flops(encoder: RepresentationEncoder, size: int) -> int:
    def count() -> Count:
        from transvae.losses.cost import twin_flops

        return (twin_flops(encoder, size),)

    return counts().get("twin", [encoder.network, encoder.cell, size], count)[0]


def _encoder(config: AutoencoderConfig) -> RepresentationEncoder:
    assert isinstance(config.encoder, RepresentationEncoder), "families of `semantic_spec.FAMILIES`"
    return config.encoder


def _config(trial: Trial) -> AutoencoderConfig:
    return AutoencoderConfig.from_dict(trial.model_config_values)
