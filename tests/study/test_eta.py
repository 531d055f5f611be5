"""What is left, from what was measured."""

import pytest

from transvae_platform.study.eta import seconds_left, study_seconds_left
from transvae_platform.study.state import StudyState


@pytest.fixture
def study(writer):
    """Three queued trials of 40 steps; a step of the second costs twice that of the others."""
    study = writer()
    study.submit()
    for trial, flops in zip(study.trials, (100.0, 200.0, 100.0), strict=True):
        study.study.append("queued", trial=trial.model_dump(mode="json"), cost={"training_flops": flops})
    return study


def run(study, number, steps, seconds_per_step, resumed_from=0):
    journal = study.queue(study.trials[number])
    journal.append("started", resumed_from=resumed_from, step=resumed_from)
    study.now += (steps - resumed_from) * seconds_per_step
    journal.append("step", step=steps, metrics={})
    return journal


def left(study):
    state = StudyState(study.folder)
    return [seconds_left(state).get(trial.id) for trial in study.trials], study_seconds_left(state)


def test_nothing_is_known_before_anything_was_measured(study):
    assert left(study) == ([None, None, None], None)


def test_running_trial_keeps_its_pace_and_the_others_take_as_long_per_flop(study):
    run(study, 0, steps=10, seconds_per_step=2.0)
    # 30 steps of 2 s; 40 of 4 s; 40 of 2 s; one after the other, as one runs
    assert left(study) == ([pytest.approx(60), pytest.approx(160), pytest.approx(80)], pytest.approx(300))


def test_only_the_last_attempt_says_how_fast_it_goes(study):
    run(study, 0, steps=10, seconds_per_step=100.0)
    run(study, 0, steps=30, seconds_per_step=1.0, resumed_from=10)
    assert left(study)[0][0] == pytest.approx(10)


def test_as_many_run_at_once_as_now(study):
    run(study, 0, steps=10, seconds_per_step=2.0)
    run(study, 2, steps=10, seconds_per_step=2.0)
    assert left(study)[1] == pytest.approx(60 + 160)  # the second starts when the first ends; the third needs 60


def test_study_in_which_nothing_runs_has_no_end(study):
    run(study, 0, steps=40, seconds_per_step=1.0).append("finished", step=40)
    assert left(study)[1] is None
