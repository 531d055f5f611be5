"""SIGKILL of the submitting process in mid-grid, then the same command again."""

import signal
import time

import pytest

from .toys import expected


@pytest.mark.parametrize("moment", [("checkpoint", 1), ("step", 65), ("finished", 2), ("started", 4)])
def test_killed_study_continues_where_it_was(study, moment):
    first = study.submit()
    study.wait_for(*moment)
    first.send(signal.SIGKILL)
    assert first.end() == -signal.SIGKILL
    before, finished = study.executions(), {trial for trial, end in study.events("finished").items() if end}
    checkpoints = {trial: records[-1]["step"] for trial, records in study.events("checkpoint").items() if records}

    second = study.submit()
    assert second.end() == 0, second.err
    state = study.state()
    assert [trial.state for trial in state.trials.values()] == ["finished"] * 4, "none is lost"
    after = study.executions()
    for trial, records in study.events("started").items():
        assert after[trial] == before.get(trial, 0) + (trial not in finished), trial
        assert records[-1]["resumed_from"] == (checkpoints.get(trial, 0) if trial not in finished else 0)
    assert study.values() == {trial: expected(trial) for trial in state.trials}

    third = study.submit()
    assert third.end() == 0
    assert study.executions() == after
    assert third.out == second.out


def test_killed_again_and_again(study, monkeypatch):
    for pause in (0.3, 0.6, 0.2):
        submission = study.submit()
        study.wait_for("started")
        time.sleep(pause)
        submission.send(signal.SIGKILL)
        submission.end()
    last = study.submit()
    assert last.end() == 0, last.err
    state = study.state()
    assert study.values() == {trial: expected(trial) for trial in state.trials}
    for trial in state.trials.values():
        assert list(trial.train) == list(range(1, 41)), "every step once, in order"
        assert sum(len(ends) for ends in (study.events("finished")[trial.trial.id],)) == 1


def test_failed_trial_is_tried_again_by_the_next_submission_only(study, monkeypatch):
    monkeypatch.setenv("TOY_FAILS", "[1]")
    assert study.submit().end() == 3
    assert study.submit().end() == 3
    assert sorted(study.executions().values()) == [1, 1, 1, 2]
    monkeypatch.setenv("TOY_FAILS", "[]")
    assert study.submit().end() == 0
    assert sorted(study.executions().values()) == [1, 1, 1, 3]
