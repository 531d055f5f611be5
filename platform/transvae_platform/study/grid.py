"""From a study to its trials: families x sizes x seeds x variants, each fully resolved and named by what it is.

With `downstream`, every autoencoder has trials of generators, whose ids follow from its own.
A trial's id ends in a hash of everything that decides its result: model, data, recipe, evaluation, seed. Where it
runs (workers, device) is not part of it, so that a study can move to other machines.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from typing import Any

from transvae.config import AutoencoderConfig
from transvae.registry import model_config
from transvae_platform.errors import SpecError
from transvae_platform.study.evaluation_spec import NO_RESULT
from transvae_platform.study.generator_grid import generator_trials
from transvae_platform.study.grid_checks import check_batch, check_patterns, check_variants
from transvae_platform.study.losses_spec import Losses
from transvae_platform.study.recipe_spec import Recipe, TrialRecipe
from transvae_platform.study.semantic_spec import FAMILIES as SEMANTIC
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.trial import (
    ADDED,
    HASH_LENGTH,
    Initial,
    Made,
    Trial,
    stable_hash,
)
from transvae_platform.study.variants import Variant, read_variant, sweep
from transvae_platform.study.workers_spec import Workers


def build_grid(
    spec: StudySpec,
    data_fingerprint: str,
    initial: Mapping[str, Initial] | None = None,
    sets: Mapping[str, str] | None = None,
    rates: Mapping[str, float] | None = None,
) -> tuple[Trial, ...]:
    """All trials of a study, largest models first within the grid's order of families; generators after autoencoders.

    Args:
        initial: what the trials of a `family-size` start from, where `recipe.start_from` names it; what generators do
            by their `label`, where `downstream.start_from` does.
        sets: the fingerprints of those of `evaluation.sets` that are made, by name.
        rates: learning rates by `family-size`, where `recipe.learning_rate` names a calibration study.

    Raises:
        SpecError: a size, variant switch or override that does not exist, named with the way out.
    """
    names = [f"{family}-{size}" for family, sizes in spec.grid.families.items() for size in sizes]
    _refuse_idle_recipe(spec)
    check_patterns("recipe.overrides", spec.recipe.overrides, names)
    check_patterns("resources.overrides", spec.resources.overrides, names)
    check_patterns("resources.priorities", spec.resources.priorities, names)
    variants = [read_variant(name, values) for name, values in spec.grid.variants.items()]
    check_variants(variants, names)
    if spec.calibration:
        variants = sweep(spec.calibration.learning_rates)
    made = Made(data_fingerprint, initial or {}, sets or {}, rates or {})
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
    return (*autoencoders, *generator_trials(spec, autoencoders, made))


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


def _trial(spec: StudySpec, family: str, size: str, variant: Variant, seed: int, made: Made) -> Trial:
    name = model_name(spec, family, size)
    config = _model_config(spec, name, variant)
    cell = f"{family}-{size}"
    recipe = _of_family(spec, variant.recipe(_overridden(spec.recipe, cell)).resolve(cell, made.rates), family)
    workers = _resolve_workers(spec, cell)
    initial = made.initial.get(cell)
    check_batch(spec, "recipe.batch_size", cell, recipe.batch_size, workers)
    if contradictions := recipe.contradictions(family):
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
