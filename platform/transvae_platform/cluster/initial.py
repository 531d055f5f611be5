"""What a study's trials start from, where `recipe.start_from` or, for generators, `downstream.start_from` names it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transvae import storage
from transvae.config import AutoencoderConfig
from transvae.families.representation import refuse_to_inherit
from transvae.generation.folder import LatentSpace, TextConditions, load_config, load_text_config
from transvae_platform.errors import SpecError, UserError
from transvae_platform.study.grid import build_grid
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.state import StudyState
from transvae_platform.study.trial import Initial, Trial
from transvae_platform.tracking.registry import local_model

if TYPE_CHECKING:
    from transvae_platform.cluster.downstream import Maker

FREE = ("name", "resolution", "posterior_init")
"""What a model of the same weights may be configured with."""


def find_initial(
    spec: StudySpec, known: StudyState | None, home: Path, tracking_uri: str | None, rates: Mapping[str, float]
) -> dict[str, Initial]:
    """What `start_from` means by `family-size`, of generators by `label`, as it was when the study was first submitted.

    An alias may have moved since; a study goes on from what it began with.

    Raises:
        SpecError: there is no such model, or it is of another architecture; says what differs.
        UnreachableError: the registry does not answer.
    """
    begun = {_cell(t.trial): t.trial.initial for t in (known.trials.values() if known else ())}
    found: dict[str, Initial] = {}
    for trial in build_grid(spec, "", rates=rates):
        key = "downstream.start_from" if trial.generator else "recipe.start_from"
        named = spec.downstream.start_from if trial.generator and spec.downstream else spec.recipe.start_from
        if named is None:
            continue
        cell = _cell(trial)
        name = named.replace("{model}", cell)
        if trial.generator and trial.generator.autoencoder:
            raise SpecError(
                f"{key}: {cell} is trained on latents of an autoencoder that this study trains, which no generator "
                "knows yet - name a registered one in downstream.tokenizers, and set downstream.vaes=[]"
            )
        initial = found.get(cell) or begun.get(cell) or _find(key, name, home, tracking_uri)
        refuse = _refuse_another_generator if trial.generator else _refuse_another
        refuse(trial, Path(initial.folder), f"{key}: {name}")
        found[cell] = initial
    return found


def refuse_other_tokenizers(trials: Sequence[Trial], tokenizers: Mapping[str, Maker]) -> None:
    """Generators that start from one of another tokenizer's latents.

    Raises:
        SpecError: names both tokenizers.
    """
    for trial in trials:
        if trial.initial is None or trial.generator is None or trial.generator.tokenizer is None:
            continue
        folder, maker = Path(trial.initial.folder), tokenizers[trial.generator.tokenizer.model]
        _, latents, _ = _read_generator(trial, folder)
        if latents is None or latents.tokenizer["weights_sha256"] != maker.weights_sha256:
            raise SpecError(
                f"downstream.start_from: {folder} was trained on latents of {latents and latents.tokenizer['name']}, "
                f"{trial.label} is on those of {maker.model} - give a generator of this tokenizer"
            )


def _cell(trial: Trial) -> str:
    return trial.label if trial.generator else f"{trial.family}-{trial.size}"


def _find(key: str, name: str, home: Path, tracking_uri: str | None) -> Initial:
    try:
        if name.startswith("models:/"):
            folder, sha256 = local_model(name, home, tracking_uri)
        else:
            folder = Path(name).expanduser().resolve()
            with (folder / storage.WEIGHTS).open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SpecError(
            f"{key}: {name} is no model ({error}) - give models:/NAME@alias, or a folder of save_pretrained"
        ) from None
    except UserError as error:
        raise SpecError(f"{key}: {error}") from None
    return Initial(folder=str(folder), weights_sha256=sha256)


def _refuse_another(trial: Trial, folder: Path, key: str) -> None:
    try:
        config = storage.load_config(folder)
    except (OSError, ValueError) as error:
        raise SpecError(f"{key}: {folder} holds no model ({error})") from None
    wanting = AutoencoderConfig.from_dict(trial.model_config_values)
    if (config.family, wanting.family) == ("s-vae", "ps-vae"):
        try:
            refuse_to_inherit(wanting, config)
        except ValueError as error:
            raise SpecError(f"{key}: {error}") from None
        return
    _refuse_differences(config.to_dict(), wanting.to_dict(), FREE, key, _cell(trial))


def _refuse_another_generator(trial: Trial, folder: Path, key: str) -> None:
    """Another network, other latents as far as they are known, or another objective."""
    of = trial.generator
    assert of is not None
    try:
        config, latents, conditions = _read_generator(trial, folder)
    except (OSError, ValueError) as error:
        raise SpecError(f"{key}: {folder} holds no generator like {trial.label} ({error})") from None
    given, wanted = dict(config), dict(trial.model_config_values)
    free = ("editing",) if wanted.get("editing") else ()  # source channels may be added, not lost
    given |= {"resolution": latents and latents.resolution, "content": latents and latents.content}
    wanted |= {"resolution": trial.resolution, "content": of.latents.content}
    if of.text:
        given |= {"objective": conditions and conditions.objective, "noise": conditions and conditions.schedule}
        wanted |= {"objective": of.text.objective}
        wanted["noise"] = of.text.noise.schedule() if of.text.objective == "noise" else None
    _refuse_differences(given, wanted, free, key, _cell(trial))


def _read_generator(trial: Trial, folder: Path) -> tuple[dict[str, Any], LatentSpace | None, TextConditions | None]:
    assert trial.generator is not None
    if trial.generator.text:
        text_config, latents, conditions = load_text_config(folder)
        return text_config.to_dict(), latents, conditions
    config, latents = load_config(folder)
    return config.to_dict(), latents, None


def _refuse_differences(
    given: Mapping[str, Any], wanted: Mapping[str, Any], free: Sequence[str], key: str, cell: str
) -> None:
    different = [
        f"{name} {given.get(name)!r} instead of {wanted.get(name)!r}"
        for name in wanted.keys() | given.keys()
        if name not in free and given.get(name) != wanted.get(name)
    ]
    if different:
        raise SpecError(f"{key} is of another architecture than {cell}: {'; '.join(sorted(different))}")
