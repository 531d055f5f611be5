"""Who holds a study's lease, judged without comparing clocks; processes, hosts and clocks are played here."""

import dataclasses
import fcntl
import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from transvae_platform.errors import UserError
from transvae_platform.study import lease as module
from transvae_platform.study.journal import Journal, read_journal
from transvae_platform.study.lease import (
    BEAT_SECONDS,
    STILL_LOOKS,
    Candidate,
    SupersededError,
    life,
    read_holder,
    wait_for_lease,
)


@pytest.fixture
def no_flock(monkeypatch):
    """A file system whose flock does not reach other nodes, and processes of another machine."""
    monkeypatch.setattr(module.lockfile, "flock", lambda *_: True)
    names = iter(range(10**6))
    monkeypatch.setattr(module, "_machine", lambda: f"node {next(names)}")


@pytest.fixture
def watch(tmp_path):
    """A candidate with a clock of its own; `look()` lets a beat pass and asks for the lease."""
    clock = SimpleNamespace(now=0.0)
    candidate = Candidate(tmp_path, now=lambda: clock.now)

    def look(seconds=BEAT_SECONDS):
        clock.now += seconds
        return candidate.attempt()

    return look


def beat(lease):
    lease._holder = dataclasses.replace(lease._holder, beat=lease._holder.beat + 1)
    lease._write()


def silent(folder):
    """A lease whose thread has ended: its beats are made by hand."""
    lease = Candidate(folder).attempt()
    lease._end.set()
    lease._thread.join()
    return lease


def test_killed_holder_leaves_the_lease_at_once_and_a_living_one_keeps_it(tmp_path):
    program = (
        "import sys, pathlib; from transvae_platform.study.lease import wait_for_lease\n"
        "with wait_for_lease(pathlib.Path(sys.argv[1]), print): print('held', flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout.readline() == b"held\n"
        candidate = Candidate(tmp_path)
        assert candidate.attempt() is None
        assert (candidate.holder.pid, candidate.holder.dead) == (process.pid, False)
        assert life(tmp_path) == "beats"
        process.kill()
        process.wait()
        assert candidate.attempt() is not None
        assert read_holder(tmp_path).pid == os.getpid()


def test_released_lease_is_free_at_once_even_after_an_error(tmp_path):
    for _ in range(2):
        with pytest.raises(RuntimeError), wait_for_lease(tmp_path, pytest.fail):
            raise RuntimeError
        assert read_holder(tmp_path) is None


def test_counter_that_moves_keeps_the_lease_where_flock_does_not_reach(tmp_path, no_flock, watch):
    lease = silent(tmp_path)
    for _ in range(5 * STILL_LOOKS):
        beat(lease)
        assert watch() is None
    for _ in range(STILL_LOOKS - 1):  # one beat is missed, but the next one comes in time
        assert watch() is None
    beat(lease)
    for _ in range(STILL_LOOKS):
        assert watch() is None


def test_counter_that_stands_still_loses_the_lease_after_enough_looks(tmp_path, no_flock, watch):
    lease = silent(tmp_path)
    looks = 0
    while (taken := watch()) is None:
        looks += 1
    assert looks == STILL_LOOKS
    taken.fence.check()
    with pytest.raises(SupersededError):
        lease.fence.check()
    lease.release()  # what the old holder does now is nothing to the new one
    assert read_holder(tmp_path).token == taken.fence.token
    taken.release()


def test_looks_are_counted_not_seconds(tmp_path, no_flock, watch):
    lease = silent(tmp_path)
    assert watch() is None
    beat(lease)
    assert watch(3600.0) is None  # a reader that slept for an hour
    assert watch(3600.0) is None  # once more, and the counter stood still: one look
    for _ in range(100):
        assert watch(BEAT_SECONDS / 1000) is None  # many looks at the same beat are none


def test_unreadable_counter_is_no_released_lease(tmp_path, no_flock, watch):
    silent(tmp_path)
    (tmp_path / "lease.json").write_text("")  # what a power cut leaves
    for _ in range(STILL_LOOKS - 1):
        assert watch() is None
    assert watch(), "but it stands still"


def test_held_flock_is_a_living_holder_though_its_counter_stands_still(tmp_path, watch):
    lease = silent(tmp_path)
    for _ in range(3 * STILL_LOOKS):
        assert watch() is None
    lease.release()


def test_process_number_given_to_another_process_is_no_life(tmp_path, watch):
    lease = silent(tmp_path)
    lease._file.close()  # as after a kill: the flock is gone, the file stays
    assert read_holder(tmp_path).dead is False  # this process exists
    assert watch() is None
    values = json.loads((tmp_path / "lease.json").read_text())
    (tmp_path / "lease.json").write_text(json.dumps({**values, "started": "1"}))
    assert read_holder(tmp_path).dead
    assert watch()


def test_file_system_without_flock_is_judged_by_the_counter(tmp_path, watch, monkeypatch):
    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    lease = silent(tmp_path)
    assert watch() is None
    beat(lease)
    assert watch() is None


def test_two_that_take_over_at_once_end_as_one(tmp_path, no_flock, monkeypatch):
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.05)
    first, second = Candidate(tmp_path).attempt(), module.Lease(tmp_path / "lock", (tmp_path / "lock").open("a+"))
    time.sleep(0.3)
    assert not first._thread.is_alive(), "superseded, it beats no more"
    assert second._thread.is_alive()
    assert read_holder(tmp_path).token == second.fence.token
    assert life(tmp_path) == "beats"
    second.release()


def test_worker_that_outlived_its_submission_writes_nothing_more(tmp_path):
    path = tmp_path / "trial.jsonl"
    with wait_for_lease(tmp_path, pytest.fail) as fence:
        journal = Journal(path, fence)
        journal.append("started")
    journal.append("step")  # the submission has ended, and none has begun since
    with wait_for_lease(tmp_path, pytest.fail) as newer:
        for event in ("step", "checkpoint", "finished"):
            with pytest.raises(SupersededError):
                journal.append(event)
        Journal(path, newer).append("queued")
    assert [record["event"] for record in read_journal(path)] == ["started", "step", "queued"]


def test_attempt_that_was_given_up_writes_nothing_more(tmp_path):
    folder, path = tmp_path / "trials" / "a", tmp_path / "trials" / "a" / "journal.jsonl"
    with wait_for_lease(tmp_path, pytest.fail) as fence:
        first = Journal(path, fence.attempt(folder))
        first.append("started")
        second = Journal(path, fence.attempt(folder))
        with pytest.raises(SupersededError, match="a: a later attempt has taken over"):
            first.append("step", step=1)
        other = fence.attempt(tmp_path / "trials" / "b")
        second.append("started")
        other.check()
        assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
    with wait_for_lease(tmp_path, pytest.fail):
        for late in (second, first):
            with pytest.raises(SupersededError, match="a later submission has taken over"):
                late.append("step", step=1)
        with pytest.raises(SupersededError, match="a later submission"):
            fence.attempt(folder)
    assert [record["event"] for record in read_journal(path)] == ["started", "started"]


def test_attempt_without_room_is_refused(tmp_path):
    (tmp_path / "a").write_text("no folder")
    with wait_for_lease(tmp_path / "s", pytest.fail) as fence, pytest.raises(UserError, match="make room"):
        fence.attempt(tmp_path / "a")


def test_a_token_is_on_the_disk_before_the_lease_is_held(tmp_path, monkeypatch):
    flushed, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: flushed.append(os.pread(number, 99, 0)) or fsync(number))
    with wait_for_lease(tmp_path, pytest.fail) as fence:
        assert flushed == [f"{os.getpid()} {fence.token}".encode()]


def test_who_only_looks_does_not_take_over(tmp_path):
    with wait_for_lease(tmp_path, pytest.fail) as fence:
        assert Candidate(tmp_path).attempt() is None
        fence.check()


def test_a_full_disk_stops_the_counter_but_not_the_holder(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.05)
    with wait_for_lease(tmp_path, pytest.fail):
        write = module.Lease._write

        def full(self):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(module.Lease, "_write", full)
        assert life(tmp_path) == "holds"
        monkeypatch.setattr(module.Lease, "_write", write)
        assert life(tmp_path) == "beats"
    assert life(tmp_path) is None


def test_a_holder_that_ended_without_release_shows_no_life(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.05)
    lease = silent(tmp_path)
    assert life(tmp_path) == "holds"
    lease._file.close()  # as after a kill on another node, whose process cannot be seen here
    assert life(tmp_path) is None


def test_a_removed_lock_is_put_back_and_a_second_look_kills_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.3)  # a busy machine holds threads up for tenths of a second
    journal = tmp_path / "trial.jsonl"
    with wait_for_lease(tmp_path, pytest.fail) as fence:
        candidate, writer = Candidate(tmp_path), Journal(journal, fence)
        for _ in range(5):
            fence.lock.unlink()
            assert candidate.attempt() is None
            writer.append("step")  # waits until the lock is there again
            assert Candidate(tmp_path).attempt() is None, "it is held again"
    assert len(read_journal(journal)) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "trial.jsonl"]


def test_a_lock_that_nobody_puts_back_ends_its_workers_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.01)
    lease = silent(tmp_path)
    lease.fence.lock.unlink()
    with pytest.raises(UserError, match="lock was removed - submit again"):
        lease.fence.check()


def test_a_lock_that_another_one_made_meanwhile_is_left_to_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.01)
    lease = silent(tmp_path)
    lease.fence.lock.unlink()
    lease.fence.lock.write_text("1 another")
    lease._hold_on()
    with pytest.raises(SupersededError):
        lease.fence.check()
    lease.release()
    assert lease.fence.lock.read_text() == "1 another"


def test_a_file_that_lost_its_name_before_it_was_held_is_no_lease(tmp_path, monkeypatch):
    silent(tmp_path).release()
    flock = module.lockfile.flock

    def replaced(file, *kind):
        (tmp_path / "lock").unlink()
        (tmp_path / "lock").write_text("1 another")
        return flock(file, *kind)

    monkeypatch.setattr(module.lockfile, "flock", replaced)
    assert Candidate(tmp_path).attempt() is None
    assert (tmp_path / "lock").read_text() == "1 another"
