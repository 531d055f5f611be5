"""Promise 5: a full or read-only disk costs a checkpoint, never the training."""

import os
import resource
import shutil
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from transvae_platform.errors import UserError
from transvae_platform.study.state import TrialState
from transvae_platform.training import saver
from transvae_platform.training.checkpoint import CheckpointStore
from transvae_platform.training.tensors import read_tensors
from transvae_platform.training.weights import TrialWeights

pytestmark = pytest.mark.fault
ROOM = 100_000  # bytes: enough for lines of a journal and a picture, too few for a checkpoint


class Mounted:
    """A disk of 4 MB."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.ballast = folder / "ballast"

    def fill(self):
        free = os.statvfs(self.folder)
        self.ballast.write_bytes(bytes(free.f_bavail * free.f_frsize - ROOM))

    def free(self):
        self.ballast.unlink()


class ReadOnly(Mounted):
    def fill(self):
        subprocess.run(["mount", "-o", "remount,ro", self.folder], check=True)

    def free(self):
        subprocess.run(["mount", "-o", "remount,rw", self.folder], check=True)


class Limited(Mounted):
    """No file may be larger than ROOM."""

    def fill(self):
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, self.before[1]))

    def free(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


DISKS = {"full": (Mounted, "No space left"), "read-only": (ReadOnly, "Read-only file system"), "quota": (Limited, "")}


@pytest.fixture(params=DISKS)
def disk(request, tmp_path):
    kind, reason = DISKS[request.param]
    folder = kind(tmp_path / "disk")
    folder.reason = reason
    if kind is Limited:
        yield folder
        return
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder.folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", str(folder.folder)], check=True)


def at_validation(monkeypatch, actions):
    """Do something before the checkpoint of a step, when the one before it has ended."""
    validated = TrialWeights.validated

    def hook(self, metrics):
        for thread in threading.enumerate():
            if thread.name == "saver":
                thread.join()
        actions.pop(self.step, lambda: None)()
        validated(self, metrics)

    monkeypatch.setattr(TrialWeights, "validated", hook)


def checkpoints(folder):
    return CheckpointStore(next(folder.rglob("checkpoints" if folder.name != "disk" else "vit-*")), keep=9)


def tensors_of(store):
    with store.newest_good() as (step, folder):
        return step, read_tensors(folder / "state")


def assert_twins(one, other):
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    assert [key for key in one[1] if not torch.equal(one[1][key], other[1][key])] == []


def test_training_goes_on_and_the_next_save_works(disk, trial, train, records, tmp_path, monkeypatch):
    train(trial(), "twin")
    work = trial(resources__checkpoints=str(disk.folder), evaluation__keep_checkpoints=1)
    seen = {}

    def look():
        store = checkpoints(disk.folder)
        seen["steps"] = store.steps()
        seen["left"] = [path.name for path in Path(store.place.location).iterdir()]
        disk.free()

    at_validation(monkeypatch, {8: disk.fill, 12: look})
    train(work)
    assert seen["steps"] == [4]
    assert sorted(seen["left"]) == ["spare_000000004", "step_000000004"], seen
    assert_twins(tensors_of(checkpoints(disk.folder)), tensors_of(checkpoints(tmp_path / "twin")))
    told = [(record["event"], record["step"]) for record in records()]
    assert [entry for entry in told if entry[0] in ("checkpoint", "alarm", "alarm_over")] == [
        ("checkpoint", 4), ("alarm", 8), ("checkpoint", 12), ("alarm_over", 12)
    ]  # fmt: skip
    assert told[-1] == ("finished", 12)
    message = records(event="alarm")[0]["message"]
    assert str(disk.folder) in message
    assert disk.reason in message
    assert "training goes on, the newest is that of step 4" in message
    state = TrialState(work, tmp_path / "run", {})
    for record in records():
        state.apply(record)
        if record["event"] == "alarm":
            assert state.alarm == message
    assert (state.state, state.alarm) == ("finished", None)


def test_trial_without_its_last_checkpoint_fails_and_continues_later(
    disk, trial, train, records, tmp_path, monkeypatch
):
    monkeypatch.setattr(saver, "RETRY_SECONDS", (0.0, 0.0))
    work = trial(resources__checkpoints=str(disk.folder), recipe__steps=8, evaluation__keep_checkpoints=1)
    train(work, "twin")
    twin = tensors_of(checkpoints(disk.folder))
    for path in Path(disk.folder).iterdir():
        subprocess.run(["rm", "-r", str(path)], check=True)
    at_validation(monkeypatch, {8: disk.fill})
    with pytest.raises(UserError, match=r"the last checkpoint, of step 8, cannot be written \(.*\) - make room"):
        train(work)
    disk.free()
    assert checkpoints(disk.folder).steps() == [4]
    assert not records(event="finished")
    assert len(records(event="alarm")) == 1
    train(work)
    assert records(event="started")[1]["resumed_from"] == 4
    assert_twins(tensors_of(checkpoints(disk.folder)), twin)


class Brimful(Mounted):
    """Not one byte is left."""

    def fill(self):
        with self.ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass


@pytest.fixture(params=[Mounted, Brimful])
def own_disk(request, tmp_path):
    """The disk of `tmp_path/run`, with journal, pictures and, unless told otherwise, checkpoints."""
    folder = request.param(tmp_path / "run")
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder.folder]).returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", str(folder.folder)], check=True)


def lines(folder):
    return (folder / "journal.jsonl").read_bytes().splitlines()


def test_journal_and_checkpoints_on_one_full_disk(own_disk, trial, train, records, tmp_path, monkeypatch):
    work = trial(evaluation__keep_checkpoints=1)
    train(work, "twin")
    at_validation(monkeypatch, {8: own_disk.fill, 12: own_disk.free})
    train(work)
    assert [record["step"] for record in records(event="alarm")] == [8], "one alarm"
    assert [record["step"] for record in records(event="checkpoint")] == [4, 12]
    assert_twins(tensors_of(checkpoints(tmp_path / "run")), tensors_of(checkpoints(tmp_path / "twin")))
    assert_curves(records)
    assert len(lines(tmp_path / "run")) == len(records()), "every line is a record"


def assert_curves(records):
    """The run's journal holds what its twin's does, every step once and in order."""
    for event in ("step", "validated", "finished"):
        ours, theirs = ([(r["step"], r["metrics"]) for r in records(name, event)] for name in ("run", "twin"))
        assert ours == theirs, event


@pytest.mark.parametrize("own_disk", [Brimful], indirect=True)
def test_no_checkpoint_is_ahead_of_a_journal_without_room(own_disk, trial, train, records, tmp_path, monkeypatch):
    elsewhere = tmp_path / "disk"
    # sixteen records need more than what is left of the page that the journal has
    work = trial(resources__checkpoints=str(elsewhere), recipe__steps=48, evaluation__every=16)
    train(work, "twin")
    shutil.rmtree(elsewhere)

    def die():
        raise KeyboardInterrupt

    at_validation(monkeypatch, {16: own_disk.fill, 48: die})
    with pytest.raises(KeyboardInterrupt):
        train(work)
    kept = checkpoints(elsewhere).steps()
    assert 32 not in kept, "the disk with the checkpoints has room, that with the journal has none"
    own_disk.free()
    train(work)
    assert [record["resumed_from"] for record in records(event="started")] == [0, max(kept, default=0)]
    state = TrialState(work, tmp_path / "run", {})
    for record in records():
        state.apply(record)
    twin = {record["step"]: record["metrics"] for record in records("twin", "step")}
    assert {step: record["metrics"] for step, record in state.train.items()} == twin, "no step is missing"


def test_a_trial_whose_end_finds_no_room_is_not_told_as_finished(trial, train, records, tmp_path, monkeypatch):
    monkeypatch.setattr(saver, "RETRY_SECONDS", (0.0, 0.0))
    work = trial(resources__checkpoints=str(tmp_path / "disk"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    finish = saver.Saver.finish

    def finish_and_fill(self):
        finish(self)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))

    monkeypatch.setattr(saver.Saver, "finish", finish_and_fill)
    try:
        with pytest.raises(UserError, match=r"the trial's journal cannot be written \(File too large\) - make room"):
            train(work)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not records(event="finished")
    monkeypatch.setattr(saver.Saver, "finish", finish)
    train(work)
    assert [record["resumed_from"] for record in records(event="started")] == [0, 12]
    assert len(records(event="finished")) == 1
