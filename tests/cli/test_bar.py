"""The bar's line where there is no terminal: how much is done, and the time left at this run's pace."""

from datetime import timedelta

import pytest

from transvae_platform.cli import bar as module
from transvae_platform.cli.bar import LINE_EVERY_SECONDS, bar


@pytest.fixture
def lines(capsys, monkeypatch):
    """What is printed of (seconds, done) of 1,000."""

    def run(*states):
        clock = [0.0]
        monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
        with bar("ingesting") as listen:
            for seconds, done in states:
                clock[0] = seconds
                listen(done, 1000)
        return capsys.readouterr().err.splitlines()

    return run


def test_time_left_counts_from_the_first_finished_piece(lines):
    """Neither what an earlier run did nor a start of Ray of 60 s is in the pace of 100 in 15 s."""
    said = lines((0.0, 500), (60.0, 600), (60.0 + LINE_EVERY_SECONDS, 700))
    assert said[0].endswith("500 of 1,000")
    assert said[1].endswith("600 of 1,000")
    assert said[2].endswith("700 of 1,000, about 0:00:45 left")


def test_bar_and_line_tell_the_same_time(lines, monkeypatch):
    shown = []
    update = module.Progress.update
    monkeypatch.setattr(
        module.Progress, "update", lambda self, task, **said: shown.append(said["left"]) or update(self, task, **said)
    )
    lines((0.0, 0), (60.0, 1), (7260.0, 2))
    assert shown == ["", "", f"about {timedelta(seconds=7200 * 998)} left"]


def test_finished_work_has_no_time_left(lines):
    assert lines((0.0, 1000))[-1].endswith("1,000 of 1,000")
