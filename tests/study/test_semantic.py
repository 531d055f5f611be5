"""The section `recipe.semantic`: which families read it, what it costs, what is refused."""

import pytest

from transvae.accounting import count_model
from transvae.config import AutoencoderConfig
from transvae.losses import cost
from transvae_platform.errors import SpecError
from transvae_platform.study.costs import losses_flops, memory_bytes, model_cost
from transvae_platform.study.plan import build_plan
from transvae_platform.study.semantic_plan import pixel_steps

RANDOM = {"network": "random", "lpips": {"network": "random", "weight": 0.1}}
FAMILIES = {"s-vae": ["T"], "ps-vae": ["T"], "rae": ["T"], "vit": ["T"]}
CODES = {"s-vae": "f8d16", "ps-vae": "f8d16", "rae": "f8d32"}


def keys(families=("s-vae", "ps-vae", "rae", "vit"), **semantic):
    chosen = {family: FAMILIES[family] for family in families}
    codes = {family: code for family, code in CODES.items() if family in families}
    return {
        "grid": {"ladder": "micro", "code": "f8d8", "families": chosen, "codes": codes},
        "recipe__semantic": {**RANDOM, "pixel_stage": {"steps": 10}, **semantic},
    }


def by_family(trials):
    return {trial.family: trial for trial in trials}


def test_each_family_reads_its_own_part_of_the_recipe(grid):
    trials = by_family(grid(**keys()))
    assert trials["vit"].recipe.semantic is None
    assert trials["s-vae"].recipe.semantic.pixel_stage is None
    assert trials["rae"].recipe.semantic.pixel_stage is None
    steps = trials["ps-vae"].recipe.steps
    assert {name: trial.recipe.stage_edge for name, trial in trials.items()} == {
        "s-vae": steps, "rae": steps, "vit": steps, "ps-vae": steps - 10,
    }  # fmt: skip
    assert [trial.model for trial in trials.values() if trial.family == "rae"] == ["rae-micro-T/f8d32"]
    assert {name: trial.ranked_by.metric for name, trial in trials.items()} == {
        "s-vae": "val/semantic_random", "ps-vae": "val/psnr", "rae": "val/psnr", "vit": "val/psnr",
    }  # fmt: skip


def test_what_other_families_are_called_does_not_change(grid):
    alone = grid(grid={"ladder": "micro", "code": "f8d8", "families": {"vit": ["T"]}})
    assert [trial.id for trial in alone] == [by_family(grid(**keys()))["vit"].id]


@pytest.mark.parametrize("change", [{"kl_reduction": "sum_channels"}, {"cosine": 0.5}, {"pixel_stage": {"steps": 9}}])
def test_ids_depend_on_the_section(grid, change):
    before, after = by_family(grid(**keys())), by_family(grid(**keys(**change)))
    assert before["ps-vae"].id != after["ps-vae"].id
    assert before["vit"].id == after["vit"].id


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({**keys(("s-vae",)), "recipe__semantic": None}, "recipe.semantic: s-vae is trained by it - add the section"),
        (keys(("vit",)), "recipe.semantic: is for s-vae, ps-vae, rae, none of which"),
        (keys(("s-vae",)), "recipe.semantic.pixel_stage: is for ps-vae, which is not in the grid"),
        (keys(semantic=0.0), "s-vae-T: recipe.semantic: neither semantic nor cosine has a weight"),
        (
            keys(("rae",), pixel_stage=None, l1=0.0, mse=0.0, lpips=None),
            "rae-T: recipe.semantic: neither l1, mse nor lpips has a weight",
        ),
        (keys(("ps-vae",), l1=0.0, mse=0.0, lpips=None), "ps-vae-T: recipe.semantic: neither l1, mse nor lpips"),
        (keys(pixel_stage={"steps": 99}), "ps-vae-T: recipe.semantic.pixel_stage.steps: more than the 40 steps"),
        ({**keys(("s-vae", "ps-vae")), "recipe__losses": {"l1": 2.0}}, "recipe.losses: no family of the grid reads it"),
        (
            {**keys(), "downstream": {"generators": ["micro-S/1"], "classes": 1, "recipe": {"steps": 4}}},
            "downstream.vaes: s-vae-T has no pixels",
        ),
    ],
)
def test_what_cannot_work_is_refused_by_name(grid, change, told):
    with pytest.raises(SpecError, match=told):
        grid(**change)


def test_weights_that_a_family_does_not_read_are_not_asked_for(grid):
    no_pixels = {"l1": 0.0, "mse": 0.0, "lpips": None}
    (s_vae,) = grid(**keys(("s-vae",), pixel_stage=None, **no_pixels))
    (rae,) = grid(**keys(("rae",), pixel_stage=None, semantic=0.0))
    assert (s_vae.family, rae.family) == ("s-vae", "rae")


def test_codes_of_families_that_are_not_there_are_refused(spec):
    with pytest.raises(ValueError, match="codes: rae is no family of this grid"):
        spec(grid={"ladder": "micro", "code": "f8d8", "families": {"vit": ["T"]}, "codes": {"rae": "f8d32"}})


def test_a_plan_counts_the_stages_the_twin_and_vgg16(grid, tmp_path):
    trials = by_family(grid(**keys()))
    ps_vae, s_vae, rae = (trials[name] for name in ("ps-vae", "s-vae", "rae"))
    config = AutoencoderConfig.from_dict(ps_vae.model_config_values)
    steps, batch, side = ps_vae.recipe.steps, ps_vae.recipe.batch_size, ps_vae.resolution
    assert (pixel_steps(ps_vae), pixel_steps(s_vae), pixel_steps(rae)) == (10, 0, steps)
    assert pixel_steps(ps_vae, steps - 4) == 6
    lpips, twin = cost.lpips_flops(side, False), cost.twin_flops(config.encoder, side)
    assert losses_flops(ps_vae) == 10 * batch * (lpips + twin)
    assert (losses_flops(s_vae), losses_flops(rae)) == (0, steps * batch * lpips)
    whole, frozen = count_model(config, side).training_flops, model_cost(s_vae)["training_flops"]
    first = 1 - 10 / steps
    assert model_cost(ps_vae)["training_flops"] == pytest.approx(first * frozen + (1 - first) * whole)
    assert memory_bytes(ps_vae, 10**5) > memory_bytes(s_vae, 10**5)
    assert len(build_plan([*trials.values()], {"cpu": 2}, tmp_path, None).rows) == 4
