"""The journal holds what was written before a kill, and what a full disk did not take at first."""

import json
import os
import resource

import pytest

from transvae_platform.errors import UserError
from transvae_platform.study.journal import Journal, JournalReader, read_journal


def events(path):
    return [record["event"] for record in read_journal(path)]


def test_records_come_back_in_order_with_their_fields(tmp_path):
    path = tmp_path / "deep" / "journal.jsonl"
    times = iter([30.0004, 10.0, 20.0])
    uptime = iter([1.0, 2.0, 3.0])
    journal = Journal(path, clock=lambda: next(times), steady=lambda: next(uptime))
    journal.append("started", lineage={"code": "a\nb"})
    journal.append("step", step=1, metrics={"loss": 0.5})
    journal.append("finished")
    journal.close()
    # the order is that of the file, whatever the clocks say
    assert read_journal(path) == [
        {"at": 30.0, "up": 1.0, "event": "started", "lineage": {"code": "a\nb"}},
        {"at": 10.0, "up": 2.0, "event": "step", "step": 1, "metrics": {"loss": 0.5}},
        {"at": 20.0, "up": 3.0, "event": "finished"},
    ]


def test_absent_journal_has_no_records(tmp_path):
    assert read_journal(tmp_path / "none.jsonl") == []


def test_every_append_is_one_complete_line_at_once(tmp_path):
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    for step in range(3):
        journal.append("step", step=step)
        assert len(read_journal(path)) == step + 1
        assert path.read_bytes().endswith(b"\n")


def test_what_decides_the_next_submission_is_flushed_to_the_disk(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    journal = Journal(tmp_path / "j.jsonl")
    journal.append("step", step=1)
    assert not flushed
    for event in ("queued", "started", "checkpoint", "finished", "failed"):
        journal.append(event)
    assert len(flushed) == 5


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_torn_last_line_is_not_there_and_spoils_nothing(tmp_path, cut):
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    journal.append("started")
    journal.append("step", step=1, text="long enough to be cut")
    journal.close()
    path.write_bytes(path.read_bytes()[: -cut - 1])
    assert events(path) == ["started"]
    torn = path.read_bytes()
    journal = Journal(path)
    journal.append("finished")
    journal.close()
    assert events(path) == ["started", "finished"]
    assert path.read_bytes().startswith(torn + b"\n")


def test_reader_yields_each_record_once_and_waits_for_the_end_of_a_line(tmp_path):
    path = tmp_path / "j.jsonl"
    reader = JournalReader(path)
    assert list(reader.new()) == []
    lines = [json.dumps({"event": name}).encode() + b"\n" for name in ("a", "b", "c")]
    with path.open("ab", buffering=0) as file:
        file.write(lines[0] + lines[1][:6])
        assert [record["event"] for record in reader.new()] == ["a"]
        assert list(reader.new()) == []
        file.write(lines[1][6:] + lines[2])
        assert [record["event"] for record in reader.new()] == ["b", "c"]
        assert list(reader.new()) == []


def test_lines_that_are_no_records_are_passed_over(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'\n{"event": "a"}\nnoise\n[1]\n{"no": "event"}\n\xff\xfe\n{"event": "b"}\n')
    assert events(path) == ["a", "b"]


def test_not_a_number_becomes_null(tmp_path):
    path = tmp_path / "j.jsonl"
    Journal(path).append("step", metrics={"a": float("nan"), "b": [float("inf"), 1.0], "c": (-float("inf"),)}, d=2)
    assert read_journal(path)[0]["metrics"] == {"a": None, "b": [None, 1.0], "c": [None]}
    assert "NaN" not in path.read_text()


@pytest.fixture
def limit():
    """Lets no file grow beyond so many bytes, until it is called with None: a write takes what still fits."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, before if size is None else (size, before[1]))

    yield limit
    limit(None)


@pytest.mark.parametrize("room", [0, 1, 30, 120])
def test_records_wait_for_room_and_come_in_their_order(tmp_path, limit, room):
    path = tmp_path / "j.jsonl"
    journal = Journal(path, patience=10_000)
    journal.append("started")
    limit(path.stat().st_size + room)
    for step in range(1, 6):
        journal.append("step", step=step, metrics={"loss": 1 / step})
    assert journal.problem == "File too large"
    assert journal.settle() == "File too large"
    assert [record.get("step") for record in read_journal(path)] == [None, *range(1, 6)][: 1 + room // 100], (
        "complete lines only"
    )
    limit(None)
    journal.append("step", step=6)
    assert journal.problem is None
    assert journal.settle() is None
    assert [record.get("step") for record in read_journal(path)] == [None, 1, 2, 3, 4, 5, 6]
    assert len(path.read_bytes().splitlines()) == 7, "no line was cut or written twice"


def test_patience_has_an_end_and_others_have_none(tmp_path, limit):
    patient, strict = Journal(tmp_path / "a.jsonl", patience=200), Journal(tmp_path / "b.jsonl")
    limit(0)
    patient.append("step", step=1, note="x" * 50)
    with pytest.raises(UserError, match=r"a\.jsonl cannot be written \(File too large\) - make room"):
        patient.append("step", step=2, note="x" * 50)
    with pytest.raises(UserError, match=r"b\.jsonl cannot be written"):
        strict.append("queued")
    limit(None)
    for journal in (patient, strict):
        journal.close()
    assert read_journal(tmp_path / "b.jsonl") == [], "what was refused is not written behind its writer's back"


def test_closed_journal_took_what_found_room(tmp_path, limit):
    path = tmp_path / "j.jsonl"
    journal = Journal(path, patience=1000)
    limit(10)
    journal.append("step", step=1)
    limit(None)
    journal.close()
    assert [record["step"] for record in read_journal(path)] == [1]


def test_torn_line_is_closed_before_the_first_record_even_without_room(tmp_path, limit):
    path = tmp_path / "j.jsonl"
    path.write_text('{"event": "torn')
    limit(path.stat().st_size)
    journal = Journal(path, patience=1000)
    journal.append("started")
    limit(None)
    journal.append("step", step=1)
    assert events(path) == ["started", "step"]
