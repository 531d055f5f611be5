"""The plan says what a study will cost, from counts and from what earlier studies measured, and changes nothing."""

import pytest

from transvae.accounting import count_model
from transvae.losses.cost import discriminator_flops, features_flops, lpips_flops
from transvae_platform.cluster.devices import check_devices
from transvae_platform.errors import SpecError
from transvae_platform.study.plan import ASSUMED_RATE, START_SECONDS, Plan, TrialPlan, build_plan
from transvae_platform.study.rates import Rate, rate_key
from transvae_platform.study.state import StudyState


def plan(trials, home, slots=None, current=None):
    return build_plan(trials, slots or {"cpu": 2, "gpu": 0}, home, current)


def measure(study, trial, seconds, attempts=1, device="cpu"):
    """Let a study have run a trial in this time."""
    journal = study.queue(trial)
    for attempt in range(attempts):
        journal.append("started", resumed_from=0, step=0, world=1, device=device, lineage={})
        study.now += seconds
        journal.append("step" if attempt < attempts - 1 else "finished", step=trial.recipe.steps, metrics={})
        study.now += 1000


def test_costs_are_those_of_the_accounting(grid, tmp_path):
    for row in plan(grid(), tmp_path).rows:
        cost = count_model(row.trial.model, 32)
        images = row.trial.recipe.steps * row.trial.recipe.batch_size
        assert row.parameters == cost.parameters
        assert row.forward_flops == cost.forward_flops
        assert row.training_flops == cost.training_flops * images
        assert row.disk_bytes == (16 * 3 + 4) * cost.parameters
        assert row.seconds == pytest.approx(row.training_flops / ASSUMED_RATE["cpu"] + START_SECONDS["cpu"])
        assert (row.measured, row.state, row.devices) == (None, "queued", "1 x cpu")


def test_training_on_several_sizes_costs_their_mean(grid, tmp_path):
    buckets = [{"size": 32, "share": 1}, {"size": 16, "share": 3}]
    for row in plan(grid(data__sampling={"buckets": buckets}), tmp_path).rows:
        large, small = (count_model(row.trial.model, size) for size in (32, 16))
        images = row.trial.recipe.steps * row.trial.recipe.batch_size
        assert row.forward_flops == large.forward_flops
        assert row.training_flops == pytest.approx(images * (large.training_flops + 3 * small.training_flops) / 4)


def test_networks_of_the_losses_are_counted_where_they_act(grid, tmp_path):
    vision = "vit_tiny_patch16_224"
    losses = {"lpips": {}, "vf": {"features": vision}, "gan": {"layers": 1, "start": 20, "alone": 5}}
    trials = grid(
        grid__families={"transvae": ["T"]}, recipe__losses=losses, recipe__decoder_stage={"steps": 10},
        evaluation__log_every=5,
    )  # fmt: skip
    (row,) = plan(trials, tmp_path).rows
    update, told = discriminator_flops(1, 32, True)
    # 40 steps: alignment and its ratio in the first 30 and at 2 logs after them, the decoder told of the GAN in 15
    expected = 10 * lpips_flops(32, True) + 30 * lpips_flops(32, True)
    expected += 32 * features_flops(vision, 32, 8, "latents") + 20 * update + 15 * told
    assert row.losses_flops == 8 * expected
    assert row.images == 40 * 8
    seconds = (row.training_flops + row.losses_flops) / ASSUMED_RATE["cpu"] + START_SECONDS["cpu"]
    assert row.seconds == pytest.approx(seconds)
    assert [row.losses_flops for row in plan(grid(), tmp_path).rows] == [0, 0, 0]


def test_variants_are_counted_apart(grid, tmp_path):
    trials = grid(
        grid__families={"transvae": ["T"]}, grid__variants={"base": {}, "std": {"ffn": "standard", "ffn_ratio": 4}}
    )
    base, std = sorted(plan(trials, tmp_path).rows, key=lambda row: row.trial.variant)
    assert base.parameters != std.parameters


def test_time_comes_from_what_another_study_measured(writer, grid, tmp_path):
    before = writer(study="earlier", recipe__steps=100)
    measured = before.trials[-1]
    measure(before, measured, 50.0)
    rows = {row.trial.label: row for row in plan(grid(), tmp_path).rows}
    row = rows[measured.label]
    assert row.measured == "cpu"
    assert row.seconds == pytest.approx(0.5 * row.steps + START_SECONDS["cpu"])
    assert not any(row.measured for label, row in rows.items() if label != measured.label)


def test_the_device_that_ran_last_counts_where_there_were_several(writer, grid, tmp_path):
    for name, seconds, device in (("old", 50.0, "A100"), ("new", 20.0, "H100")):
        before = writer(study=name, recipe__steps=100)
        before.now = {"old": 1000.0, "new": 9000.0}[name]
        measure(before, before.trials[-1], seconds, device=device)
    (row,) = [row for row in plan(grid(), tmp_path).rows if row.trial.label == before.trials[-1].label]
    assert row.measured == "H100"
    assert row.seconds == pytest.approx(0.2 * row.steps + START_SECONDS["cpu"])


def test_what_a_tracking_server_tells_counts_where_this_home_measured_nothing(writer, grid, tmp_path):
    before = writer(study="earlier")
    own = before.trials[-1]
    measure(before, own, 20.0)
    told = {rate_key(trial): Rate(2.0, "H100", told=True) for trial in grid()}
    rows = build_plan(grid(), {"cpu": 2, "gpu": 0}, tmp_path, None, told=told).rows
    assert {row.told for row in rows if row.trial.label == own.label} == {False}
    others = [row for row in rows if row.trial.label != own.label]
    assert len(others) == 2
    for row in others:
        assert (row.measured, row.told) == ("H100", True)
        assert row.seconds == pytest.approx(2.0 * row.steps + START_SECONDS["cpu"])


@pytest.mark.parametrize(
    "change",
    [
        {"recipe__batch_size": 16},
        {"data__resolution": 64},
        {"recipe__precision": "bf16"},
        {"resources__workers": 2},
        {"recipe__losses": {"lpips": {"network": "random"}}},
    ],
)
def test_measurement_of_other_work_is_not_taken(writer, grid, tmp_path, change):
    before = writer(study="earlier", **change)
    measure(before, before.trials[-1], 50.0)
    assert not any(row.measured for row in plan(grid(), tmp_path).rows)


def test_measurement_of_an_interrupted_trial_is_not_taken(writer, grid, tmp_path):
    before = writer(study="earlier")
    measure(before, before.trials[-1], 50.0, attempts=2)
    assert not any(row.measured for row in plan(grid(), tmp_path).rows)


def test_finished_trials_are_shown_and_not_counted(writer, tmp_path):
    study = writer()
    measure(study, study.trials[0], 50.0)
    study.queue(study.trials[1]).append("failed", reason="lost")
    result = plan(study.trials, tmp_path, current=StudyState(study.folder))
    assert [row.state for row in result.rows] == ["finished", "failed", "queued"]
    assert result.device_seconds == pytest.approx(sum(row.seconds for row in result.rows[1:]))


def row(trial, seconds, workers, device="cpu", state="queued", step=0):
    trial = trial.model_copy(
        update={"workers": trial.workers.model_copy(update={"workers": workers, "device": device})}
    )
    trial = trial.model_copy(update={"id": f"{device}-{seconds}x{workers}"})
    return TrialPlan(trial, 1, 1, 1.0, 0.0, 10, "", seconds, step, "cpu", 1, 1, state)


@pytest.mark.parametrize(
    ("rows", "slots", "wall", "device"),
    [
        ([(4, 1), (3, 1), (2, 1)], {"cpu": 2}, 5, 9),  # 4 beside 3, then 2 after 3
        ([(4, 1), (3, 2), (2, 1)], {"cpu": 2}, 7, 12),  # the wide one after both others, which run beside each other
        ([(4, 1, "cpu", "running", 5), (3, 1)], {"cpu": 1}, 5, 5),  # half of it is done
        ([(4, 1), (3, 1)], {"cpu": 1}, 7, 7),
        ([(4, 1), (6, 1, "gpu")], {"cpu": 1, "gpu": 1}, 6, 10),  # kinds run beside each other
        ([(4, 1, "cpu", "finished"), (3, 1)], {"cpu": 1}, 3, 3),
        ([], {"cpu": 2}, 0, 0),
    ],
)
def test_makespan(grid, rows, slots, wall, device):
    trial = grid()[0]
    result = Plan(tuple(row(trial, *cells) for cells in rows), slots)
    assert result.wall_seconds == wall
    assert result.device_seconds == device


def test_planning_writes_nothing(writer, tmp_path):
    study = writer()
    measure(study, study.trials[0], 50.0)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*")}
    plan(study.trials, tmp_path, current=StudyState(study.folder))
    plan(study.trials, tmp_path / "absent")
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    ("workers", "device", "message"),
    [
        (9, "gpu", "resources: transvae-B asks for 9 GPUs, but this machine has 8 - lower `resources.workers`"),
        (3, "cpu", "resources: transvae-B asks for 3 CPU cores, but this machine has 2 - "),
    ],
)
def test_more_devices_than_there_are_is_refused(grid, workers, device, message):
    trials = grid(recipe__batch_size=72, resources__workers=workers, resources__device=device)
    with pytest.raises(SpecError) as caught:
        check_devices(trials, 2, 8, "this machine")
    assert message in str(caught.value)
    check_devices(trials, workers, workers, "this machine")


def test_one_gpu_on_a_machine_without_is_refused(grid):
    with pytest.raises(SpecError, match="asks for 1 GPU, but this machine has 0"):
        check_devices(grid(resources__device="gpu"), 2, 0, "this machine")
