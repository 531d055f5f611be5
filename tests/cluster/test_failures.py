"""Attempts at a trial that fail: told one by one, charged or not, and not repeated for ever."""

from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from transvae_platform.cluster import worker
from transvae_platform.cluster.failures import SAME, TellFailures, charged, given_up, one_line
from transvae_platform.errors import UserError
from transvae_platform.study.grid import build_grid
from transvae_platform.study.journal import Journal, read_journal
from transvae_platform.study.load import load_study

STUDY = Path(__file__).parents[2] / "studies" / "quickstart.yaml"
CHANGES = ("grid.families={vit: [T]}", "recipe.overrides={}", "resources.max_failures=9")
GONE = ModuleNotFoundError("No module named 'kernels'")
AWAY = OSError("[Errno 5] Input/output error")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "trial"


@pytest.fixture
def journal(folder):
    return Journal(folder / "journal.jsonl")


@pytest.fixture
def job(tmp_path, folder):
    (trial,) = build_grid(load_study(STUDY, CHANGES), "fingerprint")
    lock = tmp_path / "lock"
    lock.write_text("1 token")
    return {
        "trial": trial.model_dump(mode="json"), "folder": str(folder), "charged": 0,
        "fence": {"lock": str(lock), "token": "token"},
    }  # fmt: skip


@pytest.fixture
def fails(job, folder):
    """Let Ray's controller say that the workers of an attempt failed; what the journal says of failures after it."""

    def run(*errors):
        TellFailures(job).after_exception(None, dict(enumerate(errors)))
        return [record for record in read_journal(folder / "journal.jsonl") if record["event"].endswith("failed")]

    return run


def died(*, preempted=False):
    cause = ActorDiedError()
    cause._preempted = preempted
    return WorkerHealthCheckFailedError("A worker health check failed.", cause)


def test_every_failure_says_its_reason_and_which_of_how_many_it_was(fails, journal, job):
    job["charged"] = 1
    journal.append("started")  # by an earlier submission
    journal.append("started", step=0)
    fails(RuntimeError("shapes differ\n(3, 4) and (4, 3)"))
    records = fails(RuntimeError("shapes differ"))  # before it could say that it began
    told = [(record["reason"], record["attempt"], record["of"], record["charged"]) for record in records]
    assert told == [("RuntimeError: shapes differ", 1, 10, True), ("RuntimeError: shapes differ", 2, 10, True)]


def test_code_that_is_wrong_is_tried_once_more_and_not_ten_times(fails, folder):
    error = ModuleNotFoundError(*GONE.args)
    error.add_note("at loop.py:3, in train")
    fails(error)
    assert given_up(folder) is None
    assert [record["event"] for record in fails(error)] == ["attempt_failed", "attempt_failed", "failed"]
    reason = given_up(folder)
    assert reason.startswith("ModuleNotFoundError: No module named 'kernels', 2 times before the first step")
    assert "at loop.py:3, in train" in (folder / "failure.txt").read_text()


def test_what_may_have_been_away_is_tried_more_often(fails, folder):
    for _ in range(SAME - 1):
        fails(AWAY)
    assert given_up(folder) is None
    fails(AWAY)
    assert given_up(folder)


@pytest.mark.parametrize("between", ["step", "queued"])
def test_a_step_or_a_new_submission_gives_all_attempts_back(fails, journal, folder, between):
    for _ in range(3):
        fails(GONE)
        journal.append(between)
    assert not [record for record in read_journal(folder / "journal.jsonl") if record["event"] == "failed"]


def test_another_reason_is_another_failure(fails, folder):
    for error in (GONE, TypeError("one"), TypeError("two"), GONE):
        fails(error)
    assert given_up(folder) is None


def test_killed_processes_never_count_as_the_same_failure(fails, folder):
    for _ in range(SAME + 1):
        records = fails(died(), RuntimeError("Connection closed by peer"))
    assert given_up(folder) is None
    assert records[-1]["reason"].startswith("the process of training worker 0 died")


def test_a_rank_that_lost_another_one_is_not_the_reason(fails):
    (record,) = fails(RuntimeError("Connection closed by peer"), GONE)
    assert record["reason"] == "ModuleNotFoundError: No module named 'kernels'"


def test_nodes_that_were_taken_away_are_not_charged(fails, journal, folder):
    journal.append("started")
    fails(died(preempted=True), GONE)
    (record,) = fails(died(preempted=True), GONE)  # Ray says it again until all have ended
    assert (record["charged"], record["attempt"]) == (False, 0)
    for event in ("started", "preempted"):
        journal.append(event)
    assert not fails(GONE)[-1]["charged"], "it had heard a notice"
    assert charged(folder) == 0
    fails(GONE)
    fails(GONE)
    assert charged(folder) == 2
    assert given_up(folder)


def test_an_attempt_is_spared_once_however_many_notices_it_heard(journal, folder):
    for event in ("started", "preempted", "preempted", "started", "started", "preempted"):
        journal.append(event)
    assert charged(folder) == 1


def test_a_submission_that_is_over_tells_nothing(fails, tmp_path, caplog):
    (tmp_path / "lock").write_text("1 another")
    assert fails(GONE) == []
    assert not caplog.records, "it is no error"


def test_a_full_disk_ends_no_controller(fails, folder, monkeypatch, caplog):
    monkeypatch.setattr(Journal, "append", lambda *_, **__: (_ for _ in ()).throw(UserError("no room")))
    assert fails(GONE) == []
    assert "a failed attempt is not told: no room" in caplog.text


def test_workers_that_are_started_after_the_end_return_at_once(fails, job):
    fails(GONE)
    fails(GONE)
    assert worker.train_worker(job)["failed"].startswith("ModuleNotFoundError")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (KeyError("x"), "KeyError: 'x'"),
        (UserError("a.yaml: x is wrong - write y"), "a.yaml: x is wrong - write y"),
        (RuntimeError("\n first\n second"), "RuntimeError: first"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_a_reason_is_one_line(error, line):
    assert one_line(error) == line
