"""From a study to its trials: families x sizes x seeds x variants, each fully resolved and named by what it is.

With `downstream`, every autoencoder has trials of generators, whose ids follow from its own.
A trial's id ends in a hash of everything that decides its result: model, data, recipe, evaluation, seed. Where it
runs (workers, device) is not part of it, so that a study can move to other machines.
"""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import Field

from transvae.config import AutoencoderConfig
from transvae.generation.config import FAMILY as DIT
from transvae.generation.config import DiTConfig, dit_config
from transvae.generation.text_config import FAMILY as TEXT_DIT
from transvae.generation.text_config import TextDiTConfig, text_dit_config
from transvae.generation.text_shapes import TextEncoderError, text_shape
from transvae.registry import model_config
from transvae_platform.errors import SpecError
from transvae_platform.study.data_spec import Sampling
from transvae_platform.study.downstream_spec import Downstream, Generator
from transvae_platform.study.evaluation_spec import NO_RESULT, Evaluation
from transvae_platform.study.losses_spec import Losses
from transvae_platform.study.recipe_spec import Recipe, TrialRecipe
from transvae_platform.study.section import Section
from transvae_platform.study.semantic_spec import FAMILIES as SEMANTIC
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.variants import Variant, read_variant, sweep
from transvae_platform.study.workers_spec import Workers

HASH_LENGTH = 10  # hex digits of a trial id: 40 bits, no collision among the trials of any study


ADDED = {"compile": False, "channels_last": True, "semantic": None}
"""Keys that `recipe` has gained, with what it did before them: so set they are no part of a trial's identity, and
studies that were begun before go on."""


class Rank(NamedTuple):
    """Which validation metric says how good a checkpoint is."""

    metric: str
    higher: bool
    """Whether more is better."""

    def order(self, value: float) -> float:
        """Smaller for the better of two values."""
        return -value if self.higher else value


QUALITY = {
    "autoencoder": Rank("val/psnr", higher=True),
    "generator": Rank("val/loss", higher=False),
    "semantic": Rank("val/semantic", higher=False),
    "semantic_random": Rank("val/semantic_random", higher=False),
}
"""What the best checkpoint of a trial is chosen by; of an S-VAE, which has no pixels, by its features."""
PIXELLESS = "s-vae"
"""The family whose latents nothing decodes to an image."""


class Initial(Section):
    """A model that a trial starts from (`recipe.start_from`)."""

    folder: str
    """As `save_pretrained` wrote it; all nodes see it."""
    weights_sha256: str


@dataclass(frozen=True)
class _Made:
    """What a study's trials need that its file only names."""

    data: str
    """Fingerprint of the data set."""
    initial: Mapping[str, Initial]
    sets: Mapping[str, str]
    rates: Mapping[str, float]


class Trial(Section):
    """One cell of a study's grid with every value resolved; what a training worker receives."""

    id: str
    study: str
    family: str
    size: str
    variant: str
    seed: int
    model: str
    """Registry name, e.g. `transvae-micro-T/f4d4`."""
    model_config_values: dict[str, Any]
    """The model's full configuration (`AutoencoderConfig.to_dict()`), variant applied."""
    data_fingerprint: str
    resolution: int
    sampling: Sampling
    recipe: TrialRecipe
    evaluation: Evaluation
    workers: Workers
    max_failures: int
    priority: int = 0
    """Of `resources.priorities`; trials of a higher one start first."""
    initial: Initial | None = None
    checkpoints: str | None = None
    """Where the study's checkpoints lie (`resources.checkpoints`)."""
    frozen: dict[str, str] = Field(default={})
    """Files of the frozen networks' weights (`resources.frozen`)."""
    generator: Generator | None = None
    """What it is trained on, if it trains a generator: then `model` and its configuration (`DiTConfig`) are of that."""

    @property
    def ranked_by(self) -> Rank:
        """What its best checkpoint is chosen by."""
        if self.family == PIXELLESS:
            assert self.recipe.semantic is not None
            return QUALITY["semantic" if self.recipe.semantic.network == "pretrained" else "semantic_random"]
        return QUALITY["generator" if self.generator else "autoencoder"]

    @property
    def cell(self) -> str:
        """The id without its hash: the same before and after the data set is made."""
        return self.id.rpartition("-")[0]

    @property
    def label(self) -> str:
        """The short name people see: `transvae-T`, with the variant where it is not the base."""
        return f"{self.family}-{self.size}" + ("" if self.variant == "base" else f"-{self.variant}")


def build_grid(
    spec: StudySpec,
    data_fingerprint: str,
    initial: Mapping[str, Initial] | None = None,
    sets: Mapping[str, str] | None = None,
    rates: Mapping[str, float] | None = None,
) -> tuple[Trial, ...]:
    """All trials of a study, largest models first within the grid's order of families; generators after autoencoders.

    Args:
        initial: what the trials of a `family-size` start from, where `recipe.start_from` names it.
        sets: the fingerprints of those of `evaluation.sets` that are made, by name.
        rates: learning rates by `family-size`, where `recipe.learning_rate` names a calibration study.

    Raises:
        SpecError: a size, variant switch or override that does not exist, named with the way out.
    """
    names = [f"{family}-{size}" for family, sizes in spec.grid.families.items() for size in sizes]
    _refuse_idle_recipe(spec)
    _check_patterns("recipe.overrides", spec.recipe.overrides, names)
    _check_patterns("resources.overrides", spec.resources.overrides, names)
    _check_patterns("resources.priorities", spec.resources.priorities, names)
    variants = [read_variant(name, values) for name, values in spec.grid.variants.items()]
    _check_variants(variants, names)
    if spec.calibration:
        variants = sweep(spec.calibration.learning_rates)
    made = _Made(data_fingerprint, initial or {}, sets or {}, rates or {})
    trials = [
        _trial(spec, family, size, variant, seed, made)
        for family, sizes in spec.grid.families.items()
        for size in sizes
        for variant in variants
        if variant.has(f"{family}-{size}")
        for seed in spec.grid.seeds
    ]
    # as people read them; who starts first is decided by `scheduling.py`
    order = {size: rank for rank, size in enumerate(("giant_printed", "G", "H", "L", "B", "T"))}
    autoencoders = sorted(trials, key=lambda trial: order[trial.size])
    return (*autoencoders, *_generator_trials(spec, autoencoders, made))


def model_name(spec: StudySpec, family: str, size: str) -> str:
    """The registry name of a grid cell, e.g. `cnn-micro-B/f8d8`."""
    ladder = "-micro" if spec.grid.ladder == "micro" else ""
    codes: Mapping[str, str] = {str(of): code for of, code in spec.grid.codes.items()}
    return f"{family}{ladder}-{size}/{codes.get(family, spec.grid.code)}"


def _of_family(spec: StudySpec, recipe: TrialRecipe, family: str) -> TrialRecipe:
    """What a family reads of a recipe."""
    if family not in SEMANTIC:
        return recipe.model_copy(update={"semantic": None})
    if recipe.semantic is None:
        raise SpecError(f"{spec.study}: recipe.semantic: {family} is trained by it - add the section, `semantic: {{}}`")
    stage = recipe.semantic.pixel_stage if family == "ps-vae" else None
    semantic = recipe.semantic.model_copy(update={"pixel_stage": stage})
    return recipe.model_copy(update={"semantic": semantic, "losses": Losses(), "decoder_stage": None})


def _refuse_idle_recipe(spec: StudySpec) -> None:
    """Sections that no family of the grid reads."""
    families, recipe = set(spec.grid.families), spec.recipe
    if recipe.semantic and not families & {*SEMANTIC}:
        raise SpecError(f"recipe.semantic: is for {', '.join(SEMANTIC)}, none of which is in the grid - remove it")
    if recipe.semantic and recipe.semantic.pixel_stage and "ps-vae" not in families:
        raise SpecError("recipe.semantic.pixel_stage: is for ps-vae, which is not in the grid - remove it")
    if families <= {*SEMANTIC}:
        for key, idle in (("losses", recipe.losses != Losses()), ("decoder_stage", recipe.decoder_stage is not None)):
            if idle:
                raise SpecError(f"recipe.{key}: no family of the grid reads it - remove it; see recipe.semantic")


def _trial(spec: StudySpec, family: str, size: str, variant: Variant, seed: int, made: _Made) -> Trial:
    name = model_name(spec, family, size)
    config = _model_config(spec, name, variant)
    cell = f"{family}-{size}"
    recipe = _of_family(spec, variant.recipe(_overridden(spec.recipe, cell)).resolve(cell, made.rates), family)
    workers = _resolve_workers(spec, cell)
    initial = made.initial.get(cell)
    _check_batch(spec, "recipe.batch_size", cell, recipe.batch_size, workers)
    if contradictions := recipe.contradictions():
        raise SpecError("\n".join(f"{spec.study}: {cell}: recipe.{message}" for message in contradictions))
    if late := [step for step in spec.evaluation.at if step > recipe.steps]:
        raise SpecError(f"{spec.study}: evaluation.at: {late[0]} is beyond the {recipe.steps} steps of {cell}")
    identity: dict[str, Any] = {
        "model": config.to_dict(),
        "seed": seed,
        "data": made.data,
        "resolution": spec.data.model_resolution,
        "sampling": spec.data.sampling.model_dump(mode="json"),
        "recipe": recipe.model_dump(
            mode="json", exclude={key for key, old in ADDED.items() if getattr(recipe, key) == old}
        ),
        "evaluation": spec.evaluation.model_dump(mode="json", exclude={*NO_RESULT, "sets"}),
    }
    if spec.evaluation.sets:  # where they lie is no part of it
        identity["sets"] = {
            name: [other.decides_samples(), made.sets.get(name)] for name, other in spec.evaluation.sets.items()
        }
    if initial:
        identity["initial"] = initial.weights_sha256
    variant_part = "" if variant.name == "base" else f"-{variant.name}"
    return Trial(
        id=f"{family}-{size}{variant_part}-s{seed}-{stable_hash(identity)[:HASH_LENGTH]}",
        study=spec.study,
        family=family,
        size=size,
        variant=variant.name,
        seed=seed,
        model=name,
        model_config_values=config.to_dict(),
        data_fingerprint=made.data,
        resolution=spec.data.model_resolution,
        sampling=spec.data.sampling,
        recipe=recipe,
        evaluation=spec.evaluation,
        workers=workers,
        max_failures=spec.resources.max_failures,
        priority=_priority(spec, cell),
        initial=initial,
        checkpoints=spec.resources.checkpoints,
        frozen={str(name): file for name, file in spec.resources.frozen.items()},
    )


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
        _check_patterns("downstream.vaes", down.vaes, [trial.label for trial in autoencoders])
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


def _generator_trials(spec: StudySpec, autoencoders: Sequence[Trial], made: _Made) -> list[Trial]:
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


def _generator_trial(spec: StudySpec, down: Downstream, source: _Source, name: str, made: _Made) -> Trial:
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
    _check_batch(spec, "downstream.recipe.batch_size", name, recipe.batch_size, workers)
    variant, flat, family = f"on-{source.label}", name.replace("/", "-"), "t2i" if down.text else "dit"
    identity: dict[str, Any] = {
        **source.generator, "network": config.to_dict(), "seed": source.seed, "data": made.data, **down.decides(name),
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
    switches = {"blocks": down.text.blocks, "modulation": down.text.modulation}
    return text_dit_config(f"{TEXT_DIT}{name}", latent_dim, latent_size, channels, **switches)


def _check_batch(spec: StudySpec, key: str, cell: str, batch: int, workers: Workers) -> None:
    for what, count in (("workers", workers.workers), ("workers x accumulate", workers.workers * workers.accumulate)):
        if batch % count:
            raise SpecError(
                f"{spec.study}: {key}: {batch} does not divide among the {count} {what} of {cell} - choose a multiple"
            )
    if workers.sharding == "fsdp" and workers.workers == 1:
        raise SpecError(
            f"{spec.study}: resources.sharding: fsdp divides weights among the workers of a trial, and {cell} has one "
            "- give it more `workers`, or ddp"
        )


def _model_config(spec: StudySpec, name: str, variant: Variant) -> AutoencoderConfig:
    if "resolution" in variant.switches:
        raise SpecError(
            f"{spec.study}: {variant.where}: the resolution is that of all trials - set it in data.resolution"
        )
    try:
        compression = model_config(name, **variant.switches).compression
        for key, size in _sizes(spec):
            if size % compression:
                near = max(compression, round(size / compression) * compression)
                raise SpecError(
                    f"{spec.study}: {key}: {size} is not a multiple of the compression {compression} of "
                    f"{name} - use {near}"
                )
        return model_config(name, resolution=spec.data.model_resolution, **variant.switches)
    except (ValueError, TypeError) as error:  # TypeError: a word where the model computes with a number
        raise SpecError(f"{spec.study}: {variant.where}: {error}") from None


def _sizes(spec: StudySpec) -> Iterator[tuple[str, int]]:
    """Every size of image that the models see, in pixels, behind its key."""
    yield "data.resolution", spec.data.model_resolution
    for size, _ in spec.data.training_sizes:
        yield "data.sampling.buckets", size
    for name, other in spec.evaluation.sets.items():
        yield f"evaluation.sets.{name}.resolution", other.resolution


def stable_hash(values: object) -> str:
    """SHA-256 of the values' canonical JSON: equal for equal values on every machine."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _overridden(recipe: Recipe, cell: str) -> Recipe:
    values: dict[str, Any] = {"overrides": {}}
    for pattern, override in recipe.overrides.items():
        if fnmatch.fnmatchcase(cell, pattern):
            values |= {key: getattr(override, key) for key in override.model_fields_set - {"source"}}
    return recipe.model_copy(update={key: value for key, value in values.items() if value is not None})


def _resolve_workers(spec: StudySpec, cell: str) -> Workers:
    chosen = Workers(**{name: getattr(spec.resources, name) for name in Workers.model_fields})
    for pattern, override in spec.resources.overrides.items():
        if fnmatch.fnmatchcase(cell, pattern):
            chosen = override
    return chosen


def _priority(spec: StudySpec, cell: str) -> int:
    return next(
        (rank for pattern, rank in reversed(spec.resources.priorities.items()) if fnmatch.fnmatchcase(cell, pattern)), 0
    )


def _check_variants(variants: Sequence[Variant], names: Sequence[str]) -> None:
    for variant in variants:
        _check_patterns(f"grid.variants.{variant.name}.models", variant.models, names)
    for name in names:
        if not any(variant.has(name) for variant in variants):
            raise SpecError(f"grid.families: no variant has {name} - add it to the `models` of one, or remove it")


def _check_patterns(key: str, patterns: Iterable[str], names: Iterable[str]) -> None:
    known = sorted(names)
    for pattern in patterns:
        if not fnmatch.filter(known, pattern):
            close = difflib.get_close_matches(pattern, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"this study's models: {', '.join(known)}"
            raise SpecError(f"{key}: {pattern!r} matches no model of the grid - {hint}")
