"""The grid: which trials a study has, what each is named by, and what cannot be built."""

import subprocess
import sys

import pytest

from transvae_platform.errors import SpecError
from transvae_platform.study.grid import build_grid
from transvae_platform.study.trial import stable_hash


def ids(trials):
    return [trial.id for trial in trials]


def test_every_combination_once_largest_first(grid):
    trials = grid(
        grid__families={"transvae": ["T", "G"], "cnn": ["B"]},
        grid__seeds=[0, 3],
        grid__variants={"base": {}, "plain": {"latent_dim": 4}},
    )
    assert [trial.size for trial in trials] == ["G"] * 4 + ["B"] * 4 + ["T"] * 4
    assert len({(t.family, t.size, t.variant, t.seed) for t in trials}) == len(trials) == 12
    assert len(set(ids(trials))) == 12
    assert trials[0].model == "transvae-micro-G/f8d8"
    assert {trial.label for trial in trials if trial.size == "B"} == {"cnn-B", "cnn-B-plain"}


def test_paper_ladder_uses_the_papers_models(grid):
    trials = grid(grid__ladder="paper", grid__code="f16d32", grid__families={"vit": ["T"]})
    assert trials[0].model == "vit-T/f16d32"


@pytest.mark.parametrize(
    "change",
    [
        {"grid__seeds": [1]},
        {"grid__code": "f4d4"},
        {"data__resolution": 64},
        {"data__sampling": {"flip": False}},
        {"data__sampling": {"buckets": [{"size": 16}, {"size": 32}]}},
        {"recipe__learning_rate": 2e-3},
        {"recipe__losses": {"kl": 1e-7}},
        {"evaluation__every": 10},
        {"grid__variants": {"base": {"latent_dim": 4}}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_id_depends_on_everything_that_decides_the_result(grid, change):
    assert not set(ids(grid())) & set(ids(grid(**change)))


@pytest.mark.parametrize("change", [{"recipe__compile": True}, {"recipe__channels_last": False}])
def test_id_tells_of_later_keys_where_they_are_used(grid, change):
    # as the first version named them
    assert ids(grid()) == ["transvae-B-s0-d9cc4fc4d7", "transvae-T-s0-58ceedd171", "cnn-T-s0-115a590f96"]
    assert not set(ids(grid())) & set(ids(grid(**change)))


def test_id_depends_on_the_data(spec):
    assert not set(ids(build_grid(spec(), "d" * 16))) & set(ids(build_grid(spec(), "e" * 16)))


@pytest.mark.parametrize(
    "change",
    [
        {"resources__workers": 2},
        {"resources__device": "gpu"},
        {"resources__max_failures": 9},
        {"resources__checkpoints": "s3://bucket/checkpoints"},
        {"evaluation__keep_best": 3},
        {"resources__overrides": {"cnn-*": {"workers": 4}}},
        {"question": "Another?"},
        {"fits__level": 0.8},
        {"grid__families": {"cnn": ["T"], "transvae": ["B", "T"]}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_id_does_not_depend_on_where_a_trial_runs_or_what_else_is_in_the_grid(grid, change):
    assert set(ids(grid())) == set(ids(grid(**change)))


def test_override_of_other_models_leaves_the_id(grid):
    before, after = grid(), grid(recipe__overrides={"cnn-*": {"steps": 80}})
    assert set(ids(before)) - set(ids(after)) == {trial.id for trial in before if trial.family == "cnn"}


def test_ids_are_the_same_in_another_process():
    program = (
        "from transvae_platform.study.trial import stable_hash\n"
        "print(stable_hash({'b': [1, 2.5], 'a': {'y': None, 'x': 'é'}}))"
    )
    environment = {"PYTHONHASHSEED": "77", "PYTHONPATH": ":".join(sys.path)}
    there = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    here = stable_hash({"a": {"x": "é", "y": None}, "b": [1, 2.5]})
    assert there.stdout.strip() == here
    # pinned: another value would orphan the finished trials of every study that exists
    assert here == "4c9755b4573e986816dd654dd97fb5975574c50440c8bccf7a57debab678ee6f"


def test_identity_refuses_numbers_without_a_canonical_form():
    with pytest.raises(ValueError, match="JSON"):
        stable_hash({"a": float("nan")})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid__families": {"transvae": ["giant_printed"]}}, "the sizes of transvae-micro at f8d8 are T, B, L, H, G"),
        (
            {"grid__ladder": "paper"},
            "transvae exists at f16d32 with sizes T, B, L, H, G, giant_printed; f8d16 with sizes",
        ),
        ({"grid__code": "f8d9"}, "transvae-micro exists at f8d8 with sizes T, B, L, H, G; f4d4 with"),
        (
            {"data__sampling": {"buckets": [{"size": 32}, {"size": 20}]}},
            "data.sampling.buckets: 20 is not a multiple of the compression 8 of transvae-micro-T/f8d8 - use 16",
        ),
        (
            {"data__resolution": 36},
            "data.resolution: 36 is not a multiple of the compression 8 of transvae-micro-T/f8d8 - use 32",
        ),
        (
            {"resources__workers": 3},
            "recipe.batch_size: 8 does not divide among the 3 workers of transvae-T - choose a mult",
        ),
        (
            {"resources__sharding": "fsdp"},
            "tiny: resources.sharding: fsdp divides weights among the workers of a trial, and transvae-T has one - ",
        ),
        ({"recipe__warmup_steps": 40}, "transvae-T: recipe.warmup_steps: 40 is not below the 40 steps"),
        ({"recipe__overrides": {"cnn-*": {"steps": 4}}}, "cnn-T: recipe.warmup_steps: 4 is not below the 4 steps"),
        (
            {"recipe__overrides": {"cnm-T": {"steps": 80}}},
            "recipe.overrides: 'cnm-T' matches no model of the grid - did you mean 'cnn-T'?",
        ),
        (
            {"resources__overrides": {"zzz": {}}},
            "resources.overrides: 'zzz' matches no model of the grid - this study's models: cnn-T, transvae-B",
        ),
        (
            {"grid__variants": {"x": {"positio": "none"}}},
            "grid.variants.x: unknown override 'positio' (did you mean 'position'?)",
        ),
        (
            {"grid__variants": {"x": {"position": "roap"}}},
            "grid.variants.x: position='roap' does not exist; choose one of rope, learned, none",
        ),
        ({"grid__variants": {"x": {"latent_dim": "many"}}}, "grid.variants.x: "),
        ({"grid__variants": {"x": {"name": "cnn-T"}}}, "grid.variants.x: "),
        (
            {"grid__variants": {"x": {"resolution": 64}}},
            "grid.variants.x: the resolution is that of all trials - set it in data.resolution",
        ),
        ({"grid__variants": {"x": {"stage_attention": False}}}, "grid.variants.x: "),
    ],
)
def test_what_cannot_be_built_is_refused_with_the_way_out(grid, change, message):
    with pytest.raises(SpecError) as caught:
        grid(**change)
    assert message in str(caught.value)


def test_later_override_wins_key_by_key(grid):
    trials = grid(
        recipe__overrides={
            "*": {"steps": 100, "learning_rate": 0.5},
            "transvae-*": {"steps": 200},
            "transvae-B": {"steps": 300, "weight_decay": 0.1, "warmup_steps": 0},
        }
    )
    found = {f"{t.family}-{t.size}": (t.recipe.steps, t.recipe.learning_rate, t.recipe.warmup_steps) for t in trials}
    assert found == {"cnn-T": (100, 0.5, 4), "transvae-T": (200, 0.5, 4), "transvae-B": (300, 0.5, 0)}
    assert all(not trial.recipe.overrides for trial in trials)


def test_later_resources_win_as_a_whole(grid):
    trials = grid(
        resources__workers=2,
        resources__overrides={"*-B": {"workers": 8, "device": "gpu"}, "transvae-*": {"workers": 4}},
    )
    found = {f"{t.family}-{t.size}": (t.workers.workers, t.workers.device) for t in trials}
    assert found == {"cnn-T": (2, "cpu"), "transvae-T": (4, "cpu"), "transvae-B": (4, "cpu")}


def test_resources_without_an_override_are_those_of_the_study(grid):
    given = {"workers": 2, "device": "gpu", "accumulate": 4, "sharding": "fsdp"}
    assert all(trial.workers.model_dump() == given for trial in grid(resources=given))


def test_variant_switches_the_ablation_in_both_sides(grid):
    base, none = sorted(
        grid(grid__families={"transvae": ["T"]}, grid__variants={"base": {}, "no-rope": {"position": "none"}}),
        key=lambda trial: trial.variant,
    )
    for side in ("encoder", "decoder"):
        assert base.model_config_values[side]["position"] == "rope"
        assert none.model_config_values[side]["position"] == "none"
    assert none.label == "transvae-T-no-rope"


def test_trial_survives_the_journey_to_a_worker(grid):
    for trial in grid():
        assert type(trial).model_validate(trial.model_dump(mode="json")) == trial
