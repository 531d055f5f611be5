"""Promise 5: a full or read-only disk costs a checkpoint, never the training."""

import os
import resource
import subprocess
import threading
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
    assert len(seen["left"]) == 1, seen
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


def test_journal_and_checkpoints_on_one_full_disk(trial, train, records, tmp_path, monkeypatch):
    work = trial(evaluation__keep_checkpoints=1)
    train(work, "twin")
    disk = Mounted(tmp_path / "run")
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", disk.folder]).returncode:
        pytest.skip("mounting needs root")
    try:
        at_validation(monkeypatch, {8: disk.fill, 12: disk.free})
        train(work)
        assert [record["step"] for record in records(event="alarm")] == [8]
        assert_twins(tensors_of(checkpoints(tmp_path / "run")), tensors_of(checkpoints(tmp_path / "twin")))
    finally:
        subprocess.run(["umount", str(disk.folder)], check=True)
