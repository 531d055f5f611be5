"""Dollars of a plan: by hand for one trial, with and without notice, and what has no price."""

from dataclasses import replace
from pathlib import Path

import pytest

from transvae_platform.errors import SpecError
from transvae_platform.study.grid import build_grid
from transvae_platform.study.load import load_study
from transvae_platform.study.plan import Plan, build_plan
from transvae_platform.study.prices_spec import Price, Prices
from transvae_platform.study.simulation import Nodes
from transvae_platform.study.spending import spending, spot_seconds, trial_spending

ROOT = Path(__file__).parents[2]
PRICE = Price(on_demand=8.0, spot=2.0, preemptions=0.5, source="assumption")
NOTHING_LEFT = {"cpu": 2, "gpu": 16}


def planned(grid, workers, price=PRICE, hours=10.0, every=20):
    """One trial of so many GPUs and hours, and its prices."""
    trials = grid(
        grid__families={"transvae": ["T"]}, recipe__batch_size=16, evaluation={"every": every},
        resources={"device": "gpu", "workers": workers},
    )  # fmt: skip
    row = build_plan(trials, NOTHING_LEFT, Path("/nowhere"), None).rows[0]
    return replace(row, seconds=hours * 3600), Prices(gpu=price)


def test_a_trial_that_nobody_stops_costs_its_hours(grid):
    row, prices = planned(grid, 4, PRICE.model_copy(update={"preemptions": 0.0}))
    cost = trial_spending(row, prices)
    assert (cost.on_demand, cost.spot, cost.preemptions) == (10 * 4 * 8.0, 10 * 4 * 2.0, 0.0)


def test_stops_make_a_trial_on_spot_machines_longer(grid):
    row, prices = planned(grid, 4)
    cost = trial_spending(row, prices)
    longer = 10 / (1 - 0.5 * Nodes.restart / 3600)  # one machine
    assert cost.spot == pytest.approx(longer * 4 * 2.0)
    assert cost.preemptions == pytest.approx(0.5 * longer)
    assert cost.on_demand == 10 * 4 * 8.0


def test_two_machines_are_stopped_twice_as_often_and_one_waits_for_the_other(grid):
    row, prices = planned(grid, 16)
    cost = trial_spending(row, prices)
    longer = 10 / (1 - 2 * 0.5 * Nodes.restart / 3600)
    assert cost.preemptions == pytest.approx(longer)
    assert cost.spot == pytest.approx(2.0 * (longer * 16 + longer * Nodes.away / 3600 * 8))


def test_without_notice_half_of_what_lies_between_checkpoints_is_done_again(grid):
    row, prices = planned(grid, 4, PRICE.model_copy(update={"notice": False}), hours=4.0)
    again = (Nodes.restart + 4 * 3600 * 20 / 40 / 2) / 3600  # half of the steps lie between two checkpoints
    assert trial_spending(row, prices).preemptions == pytest.approx(0.5 * 4 / (1 - 0.5 * again))


def test_a_trial_that_would_never_end_is_refused(grid):
    row, prices = planned(grid, 4, PRICE.model_copy(update={"notice": False}), hours=1000.0)
    with pytest.raises(SpecError, match=r"resources\.prices: transvae-T is preempted 0\.5 times an hour"):
        trial_spending(row, prices)


def test_what_has_no_price_costs_nothing_and_says_nothing(grid, tmp_path):
    plan = build_plan(grid(), {"cpu": 2, "gpu": 0}, tmp_path, None)
    assert spending(plan, Prices()) is None
    assert spot_seconds(plan, Prices()) is None
    assert spending(plan, Prices(cpu=PRICE)).on_demand == pytest.approx(plan.device_seconds / 3600 * 8.0)


def test_preemptions_make_the_study_longer_and_finished_trials_cost_nothing_more(grid):
    row, prices = planned(grid, 16)
    plan = Plan((row,), NOTHING_LEFT)
    assert spending(plan, prices).on_demand == 10 * 16 * 8.0
    assert 10 * 3600 == plan.wall_seconds < spot_seconds(plan, prices) < 1.5 * plan.wall_seconds
    over = Plan((replace(row, state="finished"),), NOTHING_LEFT)
    assert spending(over, prices) is None


def test_a_given_price_keeps_the_share_of_spot():
    prices = Prices(gpu=PRICE).at(4.0)
    assert (prices.gpu.on_demand, prices.gpu.spot, prices.gpu.preemptions) == (4.0, 1.0, 0.5)
    assert Prices(gpu=PRICE).at(None).gpu == PRICE
    assert Prices(gpu=None).at(4.0).gpu.on_demand == 4.0


@pytest.mark.parametrize("name", ["figure6a_f8d16", "ps_vae_text_to_image"])
def test_latents_between_trials_cost_their_hours_too(name):
    spec = load_study(ROOT / "studies" / f"{name}.yaml")
    plan = build_plan(build_grid(spec, "d" * 16), {"gpu": 64}, Path("/nowhere"), None, images=1_281_167)
    prices = Prices(gpu=PRICE)
    assert sum(one.seconds for one in plan.latents) > 0
    assert spending(plan, prices).on_demand == pytest.approx(plan.device_seconds / 3600 * 8.0)
    assert spot_seconds(plan, prices) >= plan.wall_seconds
