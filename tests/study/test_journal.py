"""The journal holds what was written before a kill, and what a full disk did not take at first."""

import errno
import os
import resource

import pytest

from transvae_platform.errors import UserError
from transvae_platform.study.journal import Journal, JournalReader, read_journal
from transvae_platform.study.record import line_of


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
    assert path.read_bytes().startswith(torn + b"#torn\n")
    assert [record["event"] for record in JournalReader(path).new()] == ["started", "finished"], "torn, not damaged"


def test_reader_yields_each_record_once_and_waits_for_the_end_of_a_line(tmp_path):
    path = tmp_path / "j.jsonl"
    reader = JournalReader(path)
    assert list(reader.new()) == []
    lines = [line_of({"event": name}) for name in ("a", "b", "c")]
    with path.open("ab", buffering=0) as file:
        file.write(lines[0] + lines[1][:6])
        assert [record["event"] for record in reader.new()] == ["a"]
        assert list(reader.new()) == []
        elsewhere = JournalReader(path, reader.position)
        file.write(lines[1][6:] + lines[2])
        assert [record["event"] for record in reader.new()] == ["b", "c"]
        assert list(reader.new()) == []
        assert [record["event"] for record in elsewhere.new()] == ["b", "c"]
        assert elsewhere.position == reader.position


@pytest.mark.parametrize("byte", range(0, 60, 7))
def test_a_flipped_bit_anywhere_is_found_and_spoils_no_other_record(tmp_path, byte):
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    for event in ("a", "b", "c"):
        journal.append(event, note="x" * 20)
    lines = path.read_bytes().splitlines(keepends=True)
    at = len(lines[0]) + byte
    path.write_bytes(bytes(value ^ (1 if index == at else 0) for index, value in enumerate(b"".join(lines))))
    assert events(path) == ["a", "c"]
    assert list(JournalReader(path).new())[1] == {"event": "unreadable", "line": 2, "missing": False}


def test_a_lost_newline_takes_the_two_records_that_it_parted(tmp_path):
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    for event in ("a", "b", "c"):
        journal.append(event)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\x0b", 1))
    assert [record["event"] for record in JournalReader(path).new()] == ["unreadable", "c"]


def lines_of(path, *events):
    """Journals of one record each, by writers one after the other."""
    for event in events:
        journal = Journal(path)
        journal.append(event)
        journal.close()
    return path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("gone", [(0,), (1,), (2,), (1, 2), (0, 1, 2)])
def test_missing_lines_are_noticed_whoever_wrote_them(tmp_path, gone):
    path = tmp_path / "j.jsonl"
    lines = lines_of(path, "a", "b", "c", "d")
    path.write_bytes(b"".join(line for n, line in enumerate(lines) if n not in gone))
    found = list(JournalReader(path).new())
    assert found[min(gone)] == {"event": "unreadable", "line": min(gone) + 1, "missing": True}
    assert len(found) == 5 - len(gone)
    lines_of(path, "e")
    assert len(list(JournalReader(path).new())) == 6 - len(gone), "the next writer goes on from the last one"


def test_missing_at_the_end_is_noticed_while_its_writer_lives_or_says_so(tmp_path):
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    for event in ("a", "b"):
        journal.append(event)
    os.truncate(path, path.read_bytes().index(b"\n") + 1)
    journal.append("c")
    journal.miss()
    journal.append("d")
    assert [record["event"] for record in JournalReader(path).new()] == ["a", "unreadable", "c", "unreadable", "d"]


def test_what_was_refused_is_not_missing(tmp_path, limit):
    path = tmp_path / "j.jsonl"
    lines_of(path, "a")
    strict = Journal(path)
    limit(path.stat().st_size + 20)
    with pytest.raises(UserError):
        strict.append("b")
    limit(None)
    strict.append("c")
    assert [record["event"] for record in JournalReader(path).new()] == ["a", "c"]


def test_what_was_not_written_by_a_journal_is_no_record_of_it(tmp_path):
    path = tmp_path / "j.jsonl"
    noise = b'\n{"event": "a"}\nnoise\n[1]\n\xff\xfe\n{"event":"a","crc":"00000000"}\n,"crc":"00000000"}\n'
    path.write_bytes(noise + line_of({"event": "b"}))
    found = list(JournalReader(path).new())
    assert [record.get("line") for record in found] == [2, 3, 4, 5, 6, 7, None]
    assert events(path) == ["b"]


def test_a_record_is_that_of_its_trial_and_records_of_earlier_versions_are_anybodys(tmp_path):
    path, other = (tmp_path / "trials" / name / "journal.jsonl" for name in ("a", "b"))
    path.parent.mkdir(parents=True)
    path.write_bytes(line_of({"n": 1, "event": "old"}))
    Journal(path).append("new")
    assert events(path) == ["old", "new"]
    other.parent.mkdir()
    path.rename(other)
    assert [record["event"] for record in JournalReader(other).new()] == ["old", "unreadable"]
    Journal(other).append("own")
    assert events(other) == ["old", "own"]


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


class Quota:
    """A file system that takes every write and tells only at a flush that it had no room for it."""

    def __init__(self, monkeypatch, path, loses=True):
        self.full, self._path, self._flush, self._loses = False, path, os.fsync, loses
        self._kept = 0
        monkeypatch.setattr(os, "fsync", self)

    def __call__(self, descriptor):
        if self.full:
            if self._loses:
                os.truncate(self._path, self._kept)  # what was not flushed is gone
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        self._flush(descriptor)
        self._kept = self._path.stat().st_size


@pytest.mark.parametrize("loses", [True, False])
def test_a_quota_that_is_told_at_the_flush_costs_no_record_and_doubles_none(tmp_path, monkeypatch, loses):
    path = tmp_path / "j.jsonl"
    quota = Quota(monkeypatch, path, loses)
    journal = Journal(path, patience=10_000)
    journal.append("started")
    reader = JournalReader(path)
    for step in range(1, 4):
        journal.append("step", step=step)
    seen = list(reader.new())
    quota.full = True
    journal.append("validated", step=3)
    assert journal.problem == "Disk quota exceeded"
    assert journal.settle() == "Disk quota exceeded"
    journal.append("step", step=4)
    quota.full = False
    assert journal.settle() is None
    journal.append("finished")
    assert [(r["event"], r.get("step")) for r in read_journal(path)] == [
        ("started", None), ("step", 1), ("step", 2), ("step", 3), ("validated", 3), ("step", 4), ("finished", None)
    ]  # fmt: skip
    assert seen + list(reader.new()) == read_journal(path), "a reader sees each record once"


def test_a_quota_told_at_the_flush_is_refused_by_who_has_no_patience(tmp_path, monkeypatch):
    path = tmp_path / "j.jsonl"
    quota = Quota(monkeypatch, path)
    journal = Journal(path)
    journal.append("submitted")
    quota.full = True
    with pytest.raises(UserError, match="Disk quota exceeded"):
        journal.append("queued")
    quota.full = False
    journal.append("ingested")
    assert events(path) == ["submitted", "ingested"]


def test_steps_are_flushed_now_and_then(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    journal = Journal(tmp_path / "j.jsonl")
    for step in range(30):
        journal.append("step", step=step, note="x" * 100_000)
    assert len(flushed) == 2
