"""Variants: of which models they are, and what they change of model and recipe."""

import json

import pytest

from transvae_platform.errors import SpecError
from transvae_platform.study.load import load_study


def labels(trials):
    return {trial.label for trial in trials}


def by_label(trials):
    return {trial.label: trial for trial in trials}


def test_variant_of_some_models_only(grid):
    variants = {"base": {"models": ["transvae-*", "vit-B"]}, "plain": {"models": "vit-*", "position": "none"},
                "no-attention": {"models": "cnn-*", "stage_attention": False}}  # fmt: skip
    trials = by_label(
        grid(grid__families={"transvae": ["T"], "vit": ["T", "B"], "cnn": ["T"]}, grid__variants=variants)
    )
    assert set(trials) == {"transvae-T", "vit-B", "vit-T-plain", "vit-B-plain", "cnn-T-no-attention"}
    assert trials["vit-B-plain"].model_config_values["encoder"]["position"] == "none"
    assert trials["cnn-T-no-attention"].model_config_values["encoder"]["stage_attention"] is False


def test_variant_changes_the_recipe_and_has_the_last_word(grid):
    recipes = by_label(
        grid(
            recipe__losses={"lpips": {}, "vf": {"weight": 0.3}},
            recipe__overrides={"cnn-*": {"steps": 60, "learning_rate": 0.5}},
            grid__variants={"base": {}, "no-vf": {"recipe.losses.vf": None, "recipe.steps": 70},
                            "large": {"recipe.losses.vf.match": "image"}, "gan": {"recipe.losses.gan.weight": 0.05}},
        )
    )  # fmt: skip
    recipes = {label: trial.recipe for label, trial in recipes.items()}
    assert recipes["cnn-T"].losses.vf.match == "latents"
    assert (recipes["cnn-T"].steps, recipes["cnn-T-no-vf"].steps) == (60, 70)
    assert recipes["cnn-T-no-vf"].learning_rate == 0.5
    assert recipes["cnn-T-no-vf"].losses.vf is None
    assert recipes["cnn-T-no-vf"].losses.lpips is not None
    assert (recipes["cnn-T-large"].losses.vf.match, recipes["cnn-T-large"].losses.vf.weight) == ("image", 0.3)
    assert (recipes["cnn-T-gan"].losses.gan.weight, recipes["cnn-T-gan"].losses.gan.layers) == (0.05, 3)


def test_recipe_of_a_variant_is_part_of_the_id(grid):
    one, other = (grid(grid__variants={"x": {"recipe.losses.kl": weight}}) for weight in (1e-7, 1e-6))
    assert not {trial.id for trial in one} & {trial.id for trial in other}


def test_a_variant_without_changes_leaves_the_recipe_alone(grid):
    assert {t.id for t in grid()} == {t.id for t in grid(grid__variants={"base": {"models": "*"}})}


@pytest.mark.parametrize(
    ("variant", "reason"),
    [
        ({"models": "vit-*"}, "grid.variants.x.models: 'vit-*' matches no model of the grid - this study's models: cn"),
        ({"models": ["cnm-T"]}, "grid.variants.x.models: 'cnm-T' matches no model of the grid - did you mean 'cnn-T'?"),
        ({"models": "cnn-T"}, "grid.families: no variant has transvae-T - add it to the `models` of one"),
        ({"models": []}, "grid.variants.x: models: [] is neither a pattern such as vit-* nor a list of patterns"),
        ({"models": 3}, "grid.variants.x: models: 3 is neither"),
        ({"recipe.losses.vff.weight": 1}, "grid.variants.x: recipe.losses.vff: unknown key - did you mean 'vf'?"),
        ({"recipe.losses.vf.match": "latent"}, "grid.variants.x: recipe.losses.vf.match: Input should be 'latents', "),
        ({"recipe.steps": "70"}, "grid.variants.x: recipe.steps: Input should be a valid integer (got '70')"),
        ({"recipe.steps": None}, "grid.variants.x: recipe.steps: Input should be a valid integer (got None)"),
        ({"recipe.steps.deep": 3}, "steps is not a section of the study file"),
        ({"recipe.overrides.cnn-T.steps": 3}, "grid.variants.x: recipe.overrides.cnn-T.steps: overrides are for mod"),
        ({"data.resolution": 64}, "grid.variants.x: data.resolution: a variant changes switches of the model and keys"),
        ({"recipe.losses.l1": 0}, "cnn-T: recipe.losses: neither l1 nor lpips has a weight"),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_variant_cannot_be(grid, variant, reason):
    with pytest.raises(SpecError) as caught:
        grid(grid__families={"cnn": ["T"], "transvae": ["T"]}, grid__variants={"x": variant})
    assert reason in str(caught.value)


def test_variant_survives_the_way_of_a_study_to_a_cluster(spec, tmp_path):
    study = spec(grid__variants={"no-vf": {"models": "cnn-*", "recipe.losses.vf": None}, "base": {}})
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps(study.model_dump(mode="json", exclude_none=True)))  # as cluster/jobs.py writes it
    assert load_study(path).grid == study.grid
