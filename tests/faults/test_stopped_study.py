"""A study that somebody asks to stop: it ends saved, the next submission goes on, and hears nothing of the wish."""

import sys

import pytest
from tests.faults.toys import expected

from transvae_platform.cli.main import main


@pytest.fixture
def transvae(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["transvae", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_a_stopped_study_is_saved_and_resumed_to_the_same_result(study, transvae, monkeypatch):
    monkeypatch.setenv("TOY_STEP_SECONDS", "0.5")  # 20 s for the first trial: the wish must come before its end
    first = study.submit()
    study.wait_for("step", 3)
    code, said, _ = transvae("study", "stop", "toys", "--home", study.home)
    assert code in (0, None)
    assert "has ended; its trials are saved" in said
    assert first.end() == 3, "something is left to do"
    (paused,) = [records for records in study.events("paused").values() if records]
    assert paused[0]["step"] < 40
    assert sum(study.executions().values()) == 1, "no other trial began"
    assert study.state().notes == [], "a budget has nothing to do with it"
    monkeypatch.setenv("TOY_STEP_SECONDS", "0.01")
    again, _, complaint = transvae("study", "resume", "toys", "--home", study.home)
    assert again in (0, None), complaint
    assert study.values() == {trial: expected(trial) for trial in study.values()}
    assert len(study.values()) == 4
    resumed = next(records for records in study.events("started").values() if len(records) == 2)
    assert resumed[1]["resumed_from"] == paused[0]["step"]


def test_a_study_that_nobody_runs_cannot_be_stopped(study, transvae):
    assert study.submit().end() == 0
    code, _, complaint = transvae("study", "stop", "toys", "--home", study.home)
    assert code == 1
    assert "no process runs study 'toys': there is nothing to stop" in complaint


def test_a_study_that_does_not_stop_in_time_is_named(study, transvae, monkeypatch):
    monkeypatch.setenv("TOY_STEP_SECONDS", "5")
    submission = study.submit()
    study.wait_for("started")
    code, _, complaint = transvae("study", "stop", "toys", "--home", study.home, "--patience", "0")
    assert code == 1
    assert "still runs after 0 s" in complaint
    submission.process.kill()
