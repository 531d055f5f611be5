"""Learning rate and warm-up as rules, and what a calibration may ask for."""

import math

import pytest

from transvae_platform.errors import SpecError
from transvae_platform.study.grid import build_grid


def recipes(trials):
    return {trial.label: trial.recipe for trial in trials}


@pytest.mark.parametrize(("scaling", "factor"), [("sqrt", math.sqrt(1 / 32)), ("linear", 1 / 32)])
def test_a_rate_follows_the_batch(grid, scaling, factor):
    rule = {"rate": 0.1, "at_batch": 256, "scaling": scaling}
    for recipe in recipes(grid(recipe__learning_rate=rule)).values():
        assert recipe.learning_rate == pytest.approx(0.1 * factor, rel=1e-12)


def test_a_model_with_a_batch_of_its_own_has_a_rate_and_a_warmup_of_its_own(grid):
    found = recipes(
        grid(
            recipe__learning_rate={"rate": 0.01, "at_batch": 8, "scaling": "linear"},
            recipe__warmup_steps={"images": 33},
            recipe__overrides={"cnn-*": {"batch_size": 16, "source": "a sweep"}},
        )
    )
    assert (found["cnn-T"].learning_rate, found["transvae-T"].learning_rate) == (0.02, 0.01)
    assert (found["cnn-T"].warmup_steps, found["transvae-T"].warmup_steps) == (3, 5), "a started step counts"


@pytest.mark.parametrize(("scaling", "found"), [("linear", "2"), ("sqrt", "1.41421")])
def test_a_rule_that_leads_beyond_every_rate_is_refused_with_its_number(grid, scaling, found):
    rule = {"rate": 1.0 if scaling == "sqrt" else 0.25, "at_batch": 4 if scaling == "sqrt" else 1, "scaling": scaling}
    with pytest.raises(SpecError, match=rf"recipe.learning_rate: .* is {found} at the batch of 8 of \S+-T, above 1 - "):
        grid(recipe__learning_rate=rule)


def test_rules_and_sources_decide_nothing_but_their_numbers(grid):
    plain = grid(recipe__learning_rate=0.01, recipe__warmup_steps=4)
    rules = grid(
        recipe__learning_rate={"rate": 0.01, "at_batch": 8}, recipe__warmup_steps={"images": 32},
        recipe__overrides={"*": {"learning_rate": 0.01, "source": "somewhere"}},
    )  # fmt: skip
    assert [trial.id for trial in plain] == [trial.id for trial in rules]


def test_a_calibrated_rate_is_that_of_the_family_and_size(spec):
    study = spec(recipe__learning_rate={"calibrated": "sweep"})
    rates = {"transvae-T": 0.004, "transvae-B": 0.002, "cnn-T": 0.001}
    found = recipes(build_grid(study, "d" * 16, rates=rates))
    assert {name: recipe.learning_rate for name, recipe in found.items()} == rates
    with pytest.raises(SpecError, match="the study 'sweep' found no rate for cnn-T - it has: transvae-B, transvae-T"):
        build_grid(study, "d" * 16, rates={"transvae-T": 0.004, "transvae-B": 0.002})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("recipe.learning_rate={rate: 0.1}", "recipe.learning_rate.at_batch: this key is needed"),
        ("recipe.learning_rate={calibrated: sweep, rate: 0.1}", "recipe.learning_rate.rate: unknown key"),
        ("recipe.learning_rate=0.0", "recipe.learning_rate: Input should be greater than 0"),
        ("recipe.learning_rate=fast", "recipe.learning_rate: Input should be a valid number"),
        ("recipe.warmup_steps={image: 3}", "recipe.warmup_steps.image: unknown key - did you mean 'images'?"),
        ("calibration={learning_rates: [0.1]}", "calibration.learning_rates: Tuple should have at least 2 items"),
        ("calibration={learning_rates: [0.2, 0.1]}", "learning_rates ascend, each value once: [0.2, 0.1]"),
        (
            "calibration={learning_rates: [0.1, 0.2], stop_at: [30]}",
            "calibration.stop_at: no validation is due at step 30 of 40",
        ),
        ("calibration={learning_rates: [0.1, 0.2], stop_at: [40]}", "no validation is due at step 40 of 40"),
    ],
)
def test_an_impossible_rule_or_calibration_is_named_where_it_stands(refusal, change, message):
    assert message in refusal(overrides=(change,))


def test_a_calibration_has_no_variants(refusal):
    rates, variants = "calibration={learning_rates: [0.1, 0.2]}", "grid.variants={a: {position: none}}"
    assert "a study tries learning rates or grid.variants, not both" in refusal(overrides=(rates, variants))


def test_every_rate_makes_a_trial_of_every_model(grid):
    trials = grid(calibration={"learning_rates": [1e-3, 4e-3]}, recipe__overrides={"cnn-*": {"learning_rate": 0.5}})
    assert sorted((trial.label, trial.recipe.learning_rate) for trial in trials) == [
        ("cnn-T-lr-0.001", 1e-3), ("cnn-T-lr-0.004", 4e-3),
        ("transvae-B-lr-0.001", 1e-3), ("transvae-B-lr-0.004", 4e-3),
        ("transvae-T-lr-0.001", 1e-3), ("transvae-T-lr-0.004", 4e-3),
    ]  # fmt: skip
