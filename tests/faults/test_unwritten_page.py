"""A study that ends on a disk without room for its page: everything else is told and kept, and the end says so."""

import pytest

from transvae_platform.cli import running
from transvae_platform.errors import UnreachableError, UserError

FULL = "report.html cannot be written (No space left on device)"


def full(*_):
    raise UserError(FULL)


def silent(*_):
    raise UnreachableError("MLflow does not answer")


@pytest.mark.parametrize("log", [None, silent], ids=["server there", "server away"])
def test_outcome_and_fits_are_told_and_kept_without_the_page(study, monkeypatch, log):
    monkeypatch.setattr(running, "write_page", full)
    monkeypatch.setattr(running, "log_page", lambda *_: print("a page"))
    monkeypatch.setattr(running, "keep_fits", log or (lambda *_: print("fits kept")))
    submission = study.submit()
    assert submission.end() == 1
    assert submission.out.count("finished") == 4, submission.err
    assert ("fits kept" in submission.out) == (log is None)
    assert "a page" not in submission.out
    said = FULL if log is None else f"{FULL}; MLflow does not answer"
    assert f"error: {said}" in submission.err


def test_a_server_that_is_away_at_the_end_is_exit_code_4(study, monkeypatch):
    monkeypatch.setattr(running, "log_page", silent)
    monkeypatch.setattr(running, "keep_fits", silent)
    submission = study.submit()
    assert submission.end() == 4
    assert submission.err.count("MLflow does not answer") == 1
