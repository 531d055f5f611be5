"""What a trial's training costs, counted: parameters, FLOPs, memory. Numbers come from `counts.py`, torch from need."""

from __future__ import annotations

from transvae.config import AutoencoderConfig
from transvae_platform.errors import SpecError
from transvae_platform.study.counts import Count, counts
from transvae_platform.study.data_spec import training_sizes
from transvae_platform.study.generator_plan import generator_activations, generator_cost, sampling_flops
from transvae_platform.study.model_counts import count_autoencoder, count_semantic_training
from transvae_platform.study.semantic_plan import has_pixels, lpips_flops, semantic_losses_flops, twin_bytes
from transvae_platform.study.trial import Trial

STATE_BYTES = 20  # per parameter in fp32: weight, gradient, AdamW's two moments, the weights' average
WEIGHT_BYTES = 4  # per parameter in fp32
CAST_BYTES = 2  # per parameter: autocast's copy of it in bfloat16
RUNTIME_BYTES = {"cpu": 600 * 10**6, "gpu": 1500 * 10**6}
"""A process with torch and Ray (cpu: measured); CUDA's context and libraries (gpu: assumption)."""
SLACK = 1.1  # of activations: what kernels need while they run, and gaps between tensors (assumption)
LPIPS_BYTES_PER_PIXEL = 2200  # VGG16's activations in fp32 for one image, and its normalised features (counted)
PATCHGAN_BYTES_PER_PIXEL = 375  # of the published discriminator for one image, in fp32 (counted)
FROZEN_BYTES = 1_217_000_000  # DINOv2 ViT-L/14 in fp32: 304 M parameters; others are smaller
GATHERED_SHARE = (
    0.15  # of the weights, gathered at a time by FSDP: what lies outside of blocks, two blocks (assumption)
)


def model_cost(trial: Trial) -> dict[str, float]:
    """Parameters of a trial's model, and FLOPs per image, by name: forward at its resolution, training as it trains.

    With buckets of several sizes, `training_flops` is the mean over their shares of the steps.

    Raises ValueError for a size that the model cannot see.
    """
    if trial.generator is not None:
        return generator_cost(trial)
    config = AutoencoderConfig.from_dict(trial.model_config_values)
    found = count_autoencoder(config, trial.resolution)
    sizes = training_sizes(trial.sampling, trial.resolution)
    return {
        "parameters": found.encoder_parameters + found.decoder_parameters,
        "encoder_parameters": found.encoder_parameters,
        "decoder_parameters": found.decoder_parameters,
        "forward_flops": found.encoder_flops + found.decoder_flops,
        "training_flops": sum(share * _training_flops(trial, config, size) for size, share in sizes),
    }


def _training_flops(trial: Trial, config: AutoencoderConfig, size: int) -> float:
    """Per image, the mean over the stages of a PS-VAE."""
    whole, recipe = count_autoencoder(config, size).training_flops, trial.recipe
    if recipe.semantic is None or recipe.semantic.pixel_stage is None:
        return whole
    first = recipe.stage_edge / recipe.steps
    return first * count_semantic_training(config, size) + (1 - first) * whole


def losses_flops(trial: Trial, until: int | None = None) -> float:
    """FLOPs of the networks of a trial's losses for all its images, or those of the steps `until` one.

    `transvae/losses/cost.py` says what counts. Of a generator: those of the samples that are drawn and measured.
    """
    if trial.generator is not None:
        return sampling_flops(trial, until)
    recipe, losses = trial.recipe, trial.recipe.losses
    if recipe.semantic is not None:
        return semantic_losses_flops(trial, until)
    vf, gan, steps, total = losses.vf, losses.gan, recipe.steps if until is None else until, 0.0
    edge = min(recipe.stage_edge, steps)
    compression = AutoencoderConfig.from_dict(trial.model_config_values).compression
    for size, share in training_sizes(trial.sampling, trial.resolution):
        images = share * recipe.batch_size
        if losses.lpips:
            aligned = edge if vf and vf.adaptive else 0  # the first steps; the GAN acts in the last ones
            told = min(recipe.gan_start + gan.alone, steps) if gan and gan.adaptive else steps
            adaptive = aligned + steps - max(told, aligned)
            total += images * (steps - adaptive) * lpips_flops(size, False)
            total += images * adaptive * lpips_flops(size, True)
        if vf:  # while the encoder is frozen it is looked at only where it is logged
            looks = edge + (steps - edge) // trial.evaluation.log_every
            total += images * looks * _features(vf.features, size, compression, vf.match)
        if gan:
            update, loss = _discriminator(gan.layers, size, gan.adaptive)
            learning = max(0, steps - recipe.gan_start)
            total += images * (learning * update + max(0, learning - gan.alone) * loss)
    return total


def memory_bytes(trial: Trial, parameters: int) -> int:
    """What a training needs of each device's memory, estimated: state, activations, losses, the runtime.

    An estimate from counted tensors; on a GPU it has not been compared with a measurement yet.
    """
    recipe, bf16 = trial.recipe, trial.recipe.precision == "bf16"
    images = recipe.batch_size // (trial.workers.workers * trial.workers.accumulate)
    size = max(size for size, _ in training_sizes(trial.sampling, trial.resolution))
    if trial.generator is not None:
        kept = generator_activations(trial)
    else:
        config = AutoencoderConfig.from_dict(trial.model_config_values)
        kept = _activations(config, size, bf16, recipe.gradient_checkpointing)
    if recipe.losses.lpips or (recipe.semantic and recipe.semantic.lpips and has_pixels(trial)):
        kept += LPIPS_BYTES_PER_PIXEL * size * size
    # beside a frozen encoder, which keeps more for its backward pass than a discriminator does, it costs nothing
    if (gan := recipe.losses.gan) and recipe.gan_start + gan.alone < recipe.stage_edge:
        kept += PATCHGAN_BYTES_PER_PIXEL * size * size
    networks = FROZEN_BYTES if recipe.losses.vf and recipe.losses.vf.network == "pretrained" else 0
    networks += twin_bytes(trial) if recipe.semantic else 0
    activations = int(images * kept * SLACK)
    if trial.workers.sharding == "fsdp":
        width = CAST_BYTES if bf16 else WEIGHT_BYTES
        # the average is whole while it is measured, when nothing is kept for a backward pass
        used = max(activations + int(parameters * GATHERED_SHARE * width), parameters * WEIGHT_BYTES)
        used += parameters * STATE_BYTES // trial.workers.workers
    else:
        used = activations + parameters * (STATE_BYTES + (CAST_BYTES if bf16 else 0))
    return used + networks + RUNTIME_BYTES[trial.workers.device]


def _activations(config: AutoencoderConfig, size: int, bf16: bool, checkpointing: bool) -> int:
    def count() -> Count:
        from transvae.memory import count_activations

        return (count_activations(config, size, bf16=bf16, checkpointing=checkpointing),)

    return counts().get("activations", [config.to_dict(), size, bf16, checkpointing], count)[0]


def _features(name: str, size: int, compression: int, match: str) -> int:
    def count() -> Count:
        from transvae.losses.cost import features_flops

        try:
            return (features_flops(name, size, compression, match),)
        except ValueError as error:  # a plan for another machine looks for no network before this
            raise SpecError(f"recipe.losses.vf.features: {error}") from None

    return counts().get("features", [name, size, compression, match], count)[0]


def _discriminator(layers: int, size: int, adaptive: bool) -> Count:
    def count() -> Count:
        from transvae.losses.cost import discriminator_flops

        return discriminator_flops(layers, size, adaptive)

    return counts().get("discriminator", [layers, size, adaptive], count)
