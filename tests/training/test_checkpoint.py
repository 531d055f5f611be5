"""A checkpoint is complete or absent, and verified before use."""

import hashlib
import shutil

import pytest

from transvae_platform.errors import UserError
from transvae_platform.training.checkpoint import CheckpointStore


def fill(step):
    def write(folder):
        (folder / "state.pt").write_bytes(bytes([step]) * 1000)
        (folder / "ema").mkdir()
        (folder / "ema" / "config.json").write_text(f'{{"step": {step}}}')

    return write


@pytest.fixture
def store(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints", keep=2)
    for step in (1, 2):
        store.save(step, fill(step), best_step=None)
    return store


def flip_bit(path):
    content = bytearray((path / "state.pt").read_bytes())
    content[500] ^= 1
    (path / "state.pt").write_bytes(content)


def truncate(path):
    (path / "state.pt").write_bytes((path / "state.pt").read_bytes()[:-1])


DAMAGE = {
    "truncated": truncate,
    "emptied": lambda path: (path / "state.pt").write_bytes(b""),
    "flipped bit": flip_bit,
    "file missing": lambda path: (path / "ema" / "config.json").unlink(),
    "file replaced by a folder": lambda path: ((path / "state.pt").unlink(), (path / "state.pt").mkdir()),
    "manifest missing": lambda path: (path / "manifest.json").unlink(),
    "manifest truncated": lambda path: (path / "manifest.json").write_text('{"state.pt"'),
    "manifest emptied": lambda path: (path / "manifest.json").write_text(""),
    "manifest without files": lambda path: (path / "manifest.json").write_text("{}"),
    "manifest of another kind": lambda path: (path / "manifest.json").write_text("[1]"),
    "everything missing": lambda path: [shutil.rmtree(path), path.mkdir()],
}


def test_newest_is_found_with_its_files(store):
    assert store.newest_good() == 2
    assert (store.path(2) / "state.pt").read_bytes() == b"\2" * 1000
    assert store.verified(1) == store.path(1)


def test_store_without_checkpoints(tmp_path):
    assert CheckpointStore(tmp_path / "none", keep=1).newest_good() is None


def test_hash_of_the_manifest_is_returned(store):
    returned = store.save(3, fill(3), best_step=None)
    assert returned == hashlib.sha256((store.path(3) / "manifest.json").read_bytes()).hexdigest()


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_newest_is_set_aside_and_the_older_one_used(store, tmp_path, damage):
    damage(store.path(2))
    with pytest.raises(UserError, match="the checkpoint cannot be used"):
        store.verified(2)
    said = []
    reader = CheckpointStore(store.folder, keep=2, on_bad=said.append)
    assert reader.newest_good() == 1
    assert store.steps() == [1]
    assert (store.folder / "bad_step_000000002").is_dir()
    assert len(said) == 1
    assert said[0].startswith("checkpoint of step 2 is damaged (")
    store.save(2, fill(2), best_step=None)  # the step is reached again
    assert store.newest_good() == 2


def test_damaged_twice_and_nothing_good_left(store):
    for step in (1, 2):
        flip_bit(store.path(step))
    assert store.newest_good() is None
    store.save(1, fill(1), best_step=None)
    flip_bit(store.path(1))
    assert store.newest_good() is None


@pytest.mark.parametrize("event", [OSError("No space left on device"), KeyboardInterrupt()])
def test_interrupted_write_is_invisible_and_cleaned(store, event):
    def write(folder):
        (folder / "state.pt").write_bytes(b"half")
        raise event

    with pytest.raises(type(event)):
        store.save(3, write, best_step=None)
    assert store.steps() == [1, 2]
    assert store.newest_good() == 2
    CheckpointStore(store.folder, keep=2).clean()
    assert sorted(path.name for path in store.folder.iterdir()) == ["step_000000001", "step_000000002"]
    store.save(3, fill(3), best_step=None)
    assert store.newest_good() == 3


def test_same_step_again_replaces_the_old_one(store):
    store.save(2, fill(9), best_step=None)
    assert (store.verified(2) / "state.pt").read_bytes() == b"\x09" * 1000


def test_newest_and_the_best_stay(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    kept = []
    for step in range(1, 7):
        store.save(step, fill(step), best_step=min(step, 2))
        kept.append(store.steps())
    assert kept == [[1], [1, 2], [2, 3], [2, 3, 4], [2, 4, 5], [2, 5, 6]]
    assert store.verified(2)


def test_files_reach_the_disk_before_the_name_does(tmp_path, monkeypatch):
    order = []
    from transvae_platform.training import checkpoint

    monkeypatch.setattr(checkpoint.os, "fsync", lambda descriptor: order.append("flushed"))
    rename = checkpoint.Path.rename
    monkeypatch.setattr(checkpoint.Path, "rename", lambda self, to: (order.append("named"), rename(self, to))[1])
    CheckpointStore(tmp_path, keep=1).save(1, fill(1), best_step=None)
    assert order == ["flushed"] * 3 + ["named", "flushed"]  # two files and the manifest, then the folder's entry
