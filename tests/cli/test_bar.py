"""The bar's line where there is no terminal: how much is done, and the time left at this run's pace."""

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


def test_time_left_counts_only_what_this_run_did(lines):
    said = lines((0.0, 900), (2 * LINE_EVERY_SECONDS, 910))
    assert said[0].endswith("900 of 1,000")
    assert said[1].endswith("910 of 1,000, about 270 s left")


def test_fresh_run_extrapolates_from_its_beginning(lines):
    assert lines((0.0, 0), (20.0, 100))[-1].endswith("100 of 1,000, about 180 s left")


def test_finished_work_has_no_time_left(lines):
    assert lines((0.0, 1000))[-1].endswith("1,000 of 1,000")
