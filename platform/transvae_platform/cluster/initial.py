"""What a study's trials start from, where `recipe.start_from` names a registered model or a folder of one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from transvae import storage
from transvae.config import AutoencoderConfig
from transvae.families.representation import refuse_to_inherit
from transvae_platform.errors import SpecError, UserError
from transvae_platform.study.grid import build_grid
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.state import StudyState
from transvae_platform.study.trial import Initial
from transvae_platform.tracking.registry import local_model

FREE = ("name", "resolution", "posterior_init")
"""What a model of the same weights may be configured with."""


def find_initial(
    spec: StudySpec, known: StudyState | None, home: Path, tracking_uri: str | None, rates: Mapping[str, float]
) -> dict[str, Initial]:
    """By `family-size`: the model that `recipe.start_from` means, as it was when the study was first submitted.

    An alias may have moved since; a study goes on from what it began with.

    Raises:
        SpecError: there is no such model, or it is of another architecture; says what differs.
        UnreachableError: the registry does not answer.
    """
    if spec.recipe.start_from is None:
        return {}
    begun = {f"{t.trial.family}-{t.trial.size}": t.trial.initial for t in (known.trials.values() if known else ())}
    found: dict[str, Initial] = {}
    for trial in build_grid(spec, "", rates=rates):
        cell = f"{trial.family}-{trial.size}"
        name = spec.recipe.start_from.replace("{model}", cell)
        initial = found.get(cell) or begun.get(cell) or _find(name, home, tracking_uri)
        _refuse_another(trial.model_config_values, Path(initial.folder), f"recipe.start_from: {name}", cell)
        found[cell] = initial
    return found


def _find(name: str, home: Path, tracking_uri: str | None) -> Initial:
    try:
        if name.startswith("models:/"):
            folder, sha256 = local_model(name, home, tracking_uri)
        else:
            folder = Path(name).expanduser().resolve()
            with (folder / storage.WEIGHTS).open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SpecError(
            f"recipe.start_from: {name} is no model ({error}) - give models:/NAME@alias, or a folder of save_pretrained"
        ) from None
    except UserError as error:
        raise SpecError(f"recipe.start_from: {error}") from None
    return Initial(folder=str(folder), weights_sha256=sha256)


def _refuse_another(expected: dict[str, object], folder: Path, key: str, cell: str) -> None:
    try:
        config = storage.load_config(folder)
    except (OSError, ValueError) as error:
        raise SpecError(f"{key}: {folder} holds no model ({error})") from None
    wanting = AutoencoderConfig.from_dict(expected)
    if (config.family, wanting.family) == ("s-vae", "ps-vae"):
        try:
            refuse_to_inherit(wanting, config)
        except ValueError as error:
            raise SpecError(f"{key}: {error}") from None
        return
    given, wanted = config.to_dict(), wanting.to_dict()
    different = [
        f"{name} {given.get(name)!r} instead of {wanted.get(name)!r}"
        for name in wanted.keys() | given.keys()
        if name not in FREE and given.get(name) != wanted.get(name)
    ]
    if different:
        raise SpecError(f"{key} is of another architecture than {cell}: {'; '.join(sorted(different))}")
