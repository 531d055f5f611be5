"""A finished trial whose result was damaged before it was registered."""

import pytest
from tests.training.twins import assert_same, last_state

from transvae_platform.cluster.reopen import reopen_lost
from transvae_platform.study.lease import wait_for_lease
from transvae_platform.study.state import TrialState


def state_of(work, folder, read, unregistered="its best checkpoint is damaged", registered=None):
    state = TrialState(work, folder, {}, unregistered=unregistered, registered=registered)
    for record in read("run"):
        state.apply(record)
    return state


@pytest.fixture
def damaged(trial, train, tmp_path):
    """A trial that finished, and whose checkpoints of these steps are cut."""

    def run(*steps):
        work = trial(evaluation__keep_checkpoints=9)
        train(work, "twin")
        train(work)
        for step in steps:
            manifest = tmp_path / "run" / "checkpoints" / f"step_{step:09d}" / "state.json"
            manifest.write_bytes(manifest.read_bytes()[:-1])
        return work

    return run


@pytest.mark.parametrize(("steps", "left"), [((12,), 8), ((8, 12), 4), ((4, 8, 12), 0)])
def test_a_lost_end_is_trained_again_to_the_same_bytes(damaged, train, records, tmp_path, steps, left):
    work = damaged(*steps)
    once = {"uri": "models:/a/1"}  # damaged in the registry, too
    with wait_for_lease(tmp_path, pytest.fail) as fence:
        reopen_lost([state_of(work, tmp_path / "run", records, registered=once)], fence)
    state = state_of(work, tmp_path / "run", records)
    assert (state.state, len(state.lost)) == ("queued", len(steps))
    train(work)
    assert records(event="started")[-1]["resumed_from"] == left
    assert_same(last_state(tmp_path / "run"), last_state(tmp_path / "twin"))


def test_a_trial_whose_last_checkpoint_is_good_is_not_run_again(damaged, records, tmp_path):
    work = damaged(8)
    with wait_for_lease(tmp_path, pytest.fail) as fence:
        reopen_lost([state_of(work, tmp_path / "run", records)], fence)
    assert state_of(work, tmp_path / "run", records).state == "finished"


def test_a_trial_that_nothing_hindered_is_not_even_read(damaged, records, tmp_path):
    work = damaged(12)
    with wait_for_lease(tmp_path, pytest.fail) as fence:
        reopen_lost([state_of(work, tmp_path / "run", records, unregistered=None)], fence)
    assert state_of(work, tmp_path / "run", records).state == "finished"
    assert (tmp_path / "run" / "checkpoints" / "step_000000012").is_dir()
