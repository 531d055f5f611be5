"""A variant of a grid: what it changes, in flat keys, and of which models.

no-rope: {position: none}                                       a switch of the model (`transvae.registry`)
no-alignment: {recipe.losses.vf: null}                          a dotted key of the recipe
plain: {models: "vit-*", stages: multi, ffn: standard}          of some models only
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from transvae_platform.errors import SpecError
from transvae_platform.study.faults import key_path, message
from transvae_platform.study.recipe_spec import Recipe
from transvae_platform.study.section import apply_change

MODELS = "models"
RECIPE = "recipe."


@dataclass(frozen=True)
class Variant:
    """One entry of `grid.variants`."""

    name: str
    models: tuple[str, ...]
    """Patterns over `family-size`."""
    switches: Mapping[str, Any]
    """Of the model's configuration."""
    changes: Mapping[str, Any]
    """Of the recipe, by dotted key without `recipe.`."""

    @property
    def where(self) -> str:
        """Its key in the study file; the base is the grid itself."""
        return "grid" if self.name == "base" else f"grid.variants.{self.name}"

    def has(self, model: str) -> bool:
        """Whether a `family-size` exists in this variant."""
        return any(fnmatch.fnmatchcase(model, pattern) for pattern in self.models)

    def recipe(self, recipe: Recipe) -> Recipe:
        """The recipe of one model as this variant changes it; the variant has the last word.

        Raises:
            SpecError: names every key that does not exist or has an impossible value.
        """
        if not self.changes:
            return recipe
        values = recipe.model_dump(mode="json")
        for key, value in self.changes.items():
            if key.partition(".")[0] == "overrides":
                raise SpecError(f"{self.where}: recipe.{key}: overrides are for models - give the key itself")
            apply_change(values, key, value)
        try:
            return Recipe.model_validate_json(json.dumps(values), strict=True)
        except ValidationError as error:
            paths = [(fault, ("recipe", *key_path(fault))) for fault in error.errors(include_url=False)]
            lines = [f"{self.where}: {'.'.join(map(str, path))}: {message(fault, path)}" for fault, path in paths]
            raise SpecError("\n".join(lines)) from None


def read_variant(name: str, values: Mapping[str, Any]) -> Variant:
    """An entry of `grid.variants`; its values are checked where they are used.

    Raises:
        SpecError: `models` is no pattern, or a dotted key belongs to another section than the recipe.
    """
    rest = dict(values)
    given = rest.pop(MODELS, "*")
    models = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list) else ()
    if not models or not all(isinstance(pattern, str) for pattern in models):
        raise SpecError(
            f"grid.variants.{name}: models: {given!r} is neither a pattern such as vit-* nor a list of patterns"
        )
    changes = {key.removeprefix(RECIPE): rest.pop(key) for key in list(rest) if key.startswith(RECIPE)}
    for key in rest:
        if "." in key:
            raise SpecError(
                f"grid.variants.{name}: {key}: a variant changes switches of the model and keys of the recipe, such "
                "as recipe.losses.vf; everything else is the same for all trials of a study"
            )
    return Variant(name, models, rest, changes)


def sweep(learning_rates: Iterable[float]) -> list[Variant]:
    """The variants of a grid that is calibrated: one per learning rate."""
    return [Variant(f"lr-{rate:g}", ("*",), {}, {"learning_rate": rate}) for rate in learning_rates]
