"""Nodes whose clocks differ by an hour or jump: no lease is stolen, no curve disordered, no duration wrong."""

import time

import pytest

from transvae_platform.study import lease

HOUR = 3600.0


def skewed(offset):
    """For a submission's process: a clock that is off by `offset(seconds since its start)`, and no flock."""

    def prepare():
        true, start = time.time, time.monotonic()
        time.time = lambda: true() + offset(time.monotonic() - start)
        lease.lockfile.flock = lambda *_: True  # on another node, which flock does not reach
        lease._machine = lambda: f"node of {offset}"

    return prepare


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda t: HOUR, lambda t: -HOUR),
        (lambda t: -HOUR, lambda t: HOUR),
        (lambda t: -HOUR * (t > 0.7), lambda t: 0.0),  # set back in mid-study
        (lambda t: 0.0, lambda t: HOUR if int(t * 5) % 2 else -HOUR),
    ],
)
def test_no_lease_is_stolen_while_its_holder_beats(study, monkeypatch, first, second):
    monkeypatch.setenv("TOY_STEP_SECONDS", "0.02")
    pair = [study.submit(prepare=skewed(first))]
    study.wait_for("started")
    began = time.monotonic()
    pair.append(study.submit(prepare=skewed(second)))
    assert [submission.end() for submission in pair] == [0, 0], pair[0].err + pair[1].err
    elapsed = time.monotonic() - began
    state = study.state()
    assert len(state.submissions) == 1
    assert sorted(study.executions().values()) == [1, 1, 1, 1]
    for trial in state.trials.values():
        assert list(trial.train) == list(range(1, 41))
        assert 40 * 0.02 * 0.9 < trial.seconds < elapsed + 10, "an attempt's seconds are those it took"


def test_dead_holder_on_another_node_loses_the_lease_whatever_the_clocks_say(study, monkeypatch):
    first = study.submit(prepare=skewed(lambda t: HOUR))
    study.wait_for("checkpoint")
    second = study.submit(prepare=skewed(lambda t: -HOUR))
    study.wait_for("checkpoint", 2)
    first.process.kill()
    first.end()
    assert second.end() == 0, second.err
    assert {trial.state for trial in study.state().trials.values()} == {"finished"}
    assert sum(study.executions().values()) <= 5
