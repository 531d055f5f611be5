"""The trials of a study's generators: each on the latents of an autoencoder of the grid or of another tokenizer."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from transvae.generation.config import FAMILY as DIT
from transvae.generation.config import DiTConfig, dit_config
from transvae.generation.text_config import FAMILY as TEXT_DIT
from transvae.generation.text_config import TextDiTConfig, text_dit_config
from transvae.generation.text_shapes import TextEncoderError, text_shape
from transvae_platform.errors import SpecError
from transvae_platform.study.data_spec import Sampling
from transvae_platform.study.downstream_spec import Downstream, Generator
from transvae_platform.study.grid_checks import check_batch, check_patterns
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.trial import HASH_LENGTH, PIXELLESS, Made, Trial, stable_hash
from transvae_platform.study.workers_spec import Workers


class _Source(NamedTuple):
    """What makes the latents of some generators."""

    label: str
    seed: int
    compression: int
    channels: int
    generator: dict[str, Any]
    """Of `Generator`, what names it."""


def _sources(spec: StudySpec, down: Downstream, autoencoders: Sequence[Trial]) -> Iterator[_Source]:
    if not down.tokenizers or down.vaes != ("*",):
        check_patterns("downstream.vaes", down.vaes, [trial.label for trial in autoencoders])
    for trial in autoencoders:
        if any(fnmatch.fnmatchcase(trial.label, pattern) for pattern in down.vaes):
            values = trial.model_config_values
            if trial.family == PIXELLESS:
                raise SpecError(
                    f"{spec.study}: downstream.vaes: {trial.label} has no pixels, what a generator draws could not be "
                    "seen - name others, e.g. [ps-vae-*]"
                )
            named: dict[str, Any] = {"autoencoder": trial.id, "tokenizer": None}
            yield _Source(trial.label, trial.seed, values["compression"], values["latent_dim"], named)
    for name, tokenizer in down.tokenizers.items():
        compression, channels = map(int, tokenizer.code.removeprefix("f").split("d"))
        for seed in spec.grid.seeds:
            named = {"autoencoder": None, "tokenizer": tokenizer.model_dump()}
            yield _Source(name, seed, compression, channels, named)


def generator_trials(spec: StudySpec, autoencoders: Sequence[Trial], made: Made) -> list[Trial]:
    """Every generator of every autoencoder and tokenizer that `downstream` names, largest first.

    Raises:
        SpecError: a generator that does not exist, or whose patches do not fit the latents.
    """
    down = spec.downstream
    if down is None:
        return []
    sources = _sources(spec, down, autoencoders)
    trials = [_generator_trial(spec, down, source, name, made) for source in sources for name in down.generators]

    def work(trial: Trial) -> int:
        shape = trial.model_config_values
        return -int(shape["depth"]) * int(shape["width"]) ** 2 * (int(shape["latent_size"]) // int(shape["patch"])) ** 2

    return sorted(trials, key=work)


def _generator_trial(spec: StudySpec, down: Downstream, source: _Source, name: str, made: Made) -> Trial:
    size = spec.data.resolution
    if size % source.compression:
        raise SpecError(
            f"{spec.study}: data.resolution: latents are made of whole images, and {size} is not a multiple of the "
            f"compression {source.compression} of {source.label}"
        )
    try:
        latent = source.channels, size // source.compression
        config = _network(down, name, *latent)
    except (ValueError, TextEncoderError) as error:
        raise SpecError(f"{spec.study}: downstream.generators: {name} of {source.label}: {error}") from None
    workers = down.resources or Workers(**{key: getattr(spec.resources, key) for key in Workers.model_fields})
    recipe = down.recipe.of(name)
    check_batch(spec, "downstream.recipe.batch_size", name, recipe.batch_size, workers)
    variant, flat, family = f"on-{source.label}", name.replace("/", "-"), "t2i" if down.text else "dit"
    initial = made.initial.get(f"{family}-{flat}-{variant}")
    identity: dict[str, Any] = {
        **source.generator, "network": config.to_dict(), "seed": source.seed, "data": made.data, **down.decides(name),
        **({"initial": initial.weights_sha256} if initial else {}),
    }  # fmt: skip
    return Trial(
        id=f"{family}-{flat}-{variant}-s{source.seed}-{stable_hash(identity)[:HASH_LENGTH]}",
        study=spec.study,
        family=family,
        size=flat,
        variant=variant,
        seed=source.seed,
        model=f"{TEXT_DIT if down.text else DIT}{name}",
        model_config_values=config.to_dict(),
        data_fingerprint=made.data,
        resolution=size,
        sampling=Sampling(flip=down.latents.flip, shuffle_window=spec.data.sampling.shuffle_window),
        recipe=recipe.resolve(),
        evaluation=down.evaluation,
        workers=workers,
        max_failures=spec.resources.max_failures,
        initial=initial,
        checkpoints=spec.resources.checkpoints,
        frozen={str(key): file for key, file in spec.resources.frozen.items()},
        generator=Generator(
            **source.generator,
            latents=down.latents,
            label_dropout=recipe.label_dropout,
            sampler=down.sampler,
            curve=down.curve,
            text=down.text,
        ),
    )


def _network(down: Downstream, name: str, latent_dim: int, latent_size: int) -> DiTConfig | TextDiTConfig:
    """Raises ValueError and TextEncoderError for parts that do not exist or do not fit."""
    if down.text is None:
        return dit_config(f"{DIT}{name}", latent_dim, latent_size, classes=down.classes, qk_norm=down.qk_norm)
    channels, _ = text_shape(down.text.encoder)
    switches = {
        "blocks": down.text.blocks,
        "modulation": down.text.modulation,
        "editing": down.text.editing is not None,
    }
    return text_dit_config(f"{TEXT_DIT}{name}", latent_dim, latent_size, channels, **switches)
