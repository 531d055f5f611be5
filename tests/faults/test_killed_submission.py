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


@pytest.mark.parametrize("lost", [1, 3, None], ids=["the end", "the last checkpoint", "everything"])
def test_a_finished_trial_whose_journal_lost_its_end_is_named_and_told_again(study, lost):
    assert study.submit().end() == 0
    before, values = study.executions(), study.values()
    path = sorted(study.folder.glob("trials/*/journal.jsonl"))[1]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-lost] if lost else []))
    (named,) = study.state().damaged
    assert named.startswith(f"{path}, which ends after record")
    again = study.submit()
    assert again.end() == 0, again.err
    rest = {trial: count for trial, count in before.items() if trial != path.parent.name}
    assert {**study.executions(), path.parent.name: 0} == {**rest, path.parent.name: 0}
    assert [trial.state for trial in study.state().trials.values()] == ["finished"] * 4
    assert study.values() == values
    assert len(study.state().damaged) == 1, "still known as shortened"
    last = study.executions()
    assert study.submit().end() == 0
    assert study.executions() == last
