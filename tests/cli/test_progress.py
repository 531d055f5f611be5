"""The time that a running study says is left."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from transvae_platform.cli import progress as module
from transvae_platform.cli.progress import StudyProgress


@pytest.fixture
def view(monkeypatch):
    """A view of four equal trials of 100 s each on one core, with a clock to set."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(module, "Console", lambda **_: Console(file=io.StringIO()))
    rows = [SimpleNamespace(trial=SimpleNamespace(cell=str(n)), seconds=100.0, steps=10) for n in range(4)]
    plan = SimpleNamespace(rows=rows, wall_seconds=200.0, slots={"cpu": 1})
    return StudyProgress(plan), clock


def eta(view, done):
    return view[0]._eta(done)


def test_a_continued_study_counts_only_what_this_submission_did(view):
    assert eta(view, 0.5) == "about 3 min left"  # the plan's 200 s: nothing was measured yet
    view[1].now = 60.0
    assert eta(view, 0.75) == "about 60 s left"  # a quarter in 60 s, a quarter is left


def test_a_fresh_study_extrapolates_after_a_tenth(view):
    assert eta(view, 0.0) == "about 3 min left"
    view[1].now = 30.0
    assert eta(view, 0.05) == "about 3 min left"
    assert eta(view, 0.2) == "about 2 min left"
    assert eta(view, 1.0) == ""


def test_every_failed_attempt_is_said_once_while_the_study_runs(monkeypatch):
    said = io.StringIO()
    monkeypatch.setattr(module, "Console", lambda **_: Console(file=said, width=200))
    view = StudyProgress(SimpleNamespace(rows=[], wall_seconds=1.0))
    view._next_line = float("inf")  # the lines that tell how far it is

    def attempt(number, at, charged=True):
        return {"reason": f"OSError: {number}", "attempt": number, "of": 3, "charged": charged, "at": at}

    trial = SimpleNamespace(
        id="vit-T-s1-abc", cell="", label="vit-T", seed=1, recipe=SimpleNamespace(steps=9), workers=None
    )
    known = SimpleNamespace(
        trial=trial, state="running", step=0, train={}, validation={}, broken=[attempt(1, 1.0)], skipped=0
    )
    state = SimpleNamespace(name="tiny", trials={"": known}, in_state=lambda _: [])
    view.listen(state, "checking")
    assert said.getvalue() == "", "it is older than this view"
    known.broken.append(attempt(2, 2.0))
    known.broken.append(attempt(2, 3.0, charged=False))
    for _ in range(2):
        view.listen(state, "checking")
    lines = [line.partition("] ")[2] for line in said.getvalue().splitlines()]
    assert lines == [
        "vit-T s1: attempt 2 of 3 failed: OSError: 2",
        "vit-T s1: an attempt failed, which is not charged: OSError: 2",
    ]
