"""Two submissions of one study: the second one attaches, and nothing is done twice."""

import re
import signal
import time

from transvae_platform.cluster import submit
from transvae_platform.tracking import server

from .toys import expected, wait_until


def test_submitted_twice_at_once_each_trial_runs_once(study):
    pair = [study.submit(), study.submit()]
    assert [submission.end() for submission in pair] == [0, 0], pair[0].err + pair[1].err
    assert sorted(study.executions().values()) == [1, 1, 1, 1]
    assert len(study.state().submissions) == 1
    assert pair[0].out == pair[1].out != ""
    assert sum("attached to it" in submission.err for submission in pair) == 1


def test_a_new_mlflow_store_is_made_by_one_process_at_a_time(study, monkeypatch):
    def connect(uri, home):
        (home / "tables").mkdir()  # fails where another process is at it
        time.sleep(0.5)
        (home / "tables").rmdir()

    monkeypatch.setattr(server, "connect", connect)
    monkeypatch.setattr(submit, "reach", server.reach)
    pair = [study.submit(), study.submit()]
    assert [submission.end() for submission in pair] == [0, 0], pair[0].err + pair[1].err


def test_attached_before_the_data_set_was_made(fresh):
    pair = [fresh.submit(), fresh.submit()]
    assert [submission.end() for submission in pair] == [0, 0], pair[0].err + pair[1].err
    assert sorted(fresh.executions().values()) == [1, 1, 1, 1]
    assert len(fresh.state().submissions) == 1
    assert pair[0].out == pair[1].out != ""


def test_attached_says_whom_it_follows_and_ends_alike(study, monkeypatch):
    monkeypatch.setenv("TOY_FAILS", "[2]")
    first = study.submit()
    study.wait_for("step")
    second = study.submit()
    assert (first.end(), second.end()) == (3, 3)
    pid = first.process.pid
    assert re.search(rf"running in process {pid} on \S+ since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d, attached", second.err)
    assert "trials done" in second.err, "the same progress"
    assert first.out == second.out
    assert sorted(study.executions().values()) == [1, 1, 1, 1], "the trial that failed is left as it is"


def test_attached_takes_over_when_the_first_is_killed(study):
    first = study.submit()
    study.wait_for("checkpoint", 5)
    second = study.submit()
    wait_until(lambda: "attached to it" in second.err)
    first.send(signal.SIGKILL)
    first.end()
    finished = sum(map(len, study.events("finished").values()))
    assert finished < 4, "the kill came too late to say anything"
    assert second.end() == 0, second.err
    assert study.values() == {trial: expected(trial) for trial in study.state().trials}
    assert sum(study.executions().values()) <= 5, "only the one that was running is started twice"
    assert len(study.state().submissions) == 2


def test_ctrl_c_leaves_the_study_running(study):
    first = study.submit()
    study.wait_for("step")
    second = study.submit()
    wait_until(lambda: "attached to it" in second.err)
    second.send(signal.SIGINT)
    assert second.end() == 130
    last = second.err.splitlines()[-1]
    assert last.startswith(f"detached: study 'toys' runs on in process {first.process.pid} on ")
    assert "Traceback" not in second.err
    assert first.end() == 0
    assert sorted(study.executions().values()) == [1, 1, 1, 1]


def test_changed_study_is_refused_at_once_while_the_first_one_runs(study):
    first = study.submit()
    study.wait_for("step")
    second = study.submit("recipe.learning_rate=0.5", "recipe.steps=50")
    assert second.end() == 2
    assert first.process.is_alive()
    assert "recipe.learning_rate: 0.001 -> 0.5" in second.err
    assert "recipe.steps: 40 -> 50" in second.err
    assert first.end() == 0
