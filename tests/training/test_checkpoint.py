"""A checkpoint is complete or absent, and verified before use: in a folder and on a store."""

import hashlib
import itertools
import json
import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from transvae_platform.data.sets.stores import open_store
from transvae_platform.errors import UnreachableError, UserError
from transvae_platform.study.lease import Fence, SupersededError
from transvae_platform.training import checkpoint, folder, manifest
from transvae_platform.training.checkpoint import CheckpointStore, open_checkpoints
from transvae_platform.training.places import check_place
from transvae_platform.training.ranks import Ranks, SaveError
from transvae_platform.training.saver import save_checkpoint

NUMBERS = itertools.count()


@dataclass
class Content:
    step: int
    byte: int | None = None

    def write(self, folder, ranks):
        (folder / "state").mkdir()
        (folder / "state" / "shard-00001-model.safetensors").write_bytes(bytes([self.byte or self.step]) * 1000)
        (folder / "state.json").write_text(f'{{"step": {self.step}, "trial": "a"}}')


def save(store, step, byte=None, best=()):
    sha256 = save_checkpoint(store, Content(step, byte), Ranks())
    store.retain(step, best)
    return sha256


def newest(store):
    """Step and bytes of the newest good checkpoint."""
    with store.newest_good() as found:
        return found and (found[0], (found[1] / "state" / "shard-00001-model.safetensors").read_bytes()[:1])


@pytest.fixture(params=["folder", "memory://"])
def location(request, tmp_path):
    return str(tmp_path / "checkpoints") if request.param == "folder" else f"memory://bucket/{next(NUMBERS)}"


@pytest.fixture
def store(location):
    store = CheckpointStore(location, keep=2)
    for step in (1, 2):
        save(store, step)
    return store


@pytest.fixture
def files(location):
    """Paths of everything under the location, and a function that changes one file of a step's checkpoint."""
    system, root = open_store(location)

    def listing():
        found = system.get_file_info(pafs.FileSelector(root, recursive=True, allow_not_found=True))
        return sorted(info.path.split(f"{root.strip('/')}/", 1)[1] for info in found if info.type == pafs.FileType.File)

    def change(step, name, edit):
        (path,) = [path for path in listing() if path.startswith(f"step_{step:09d}") and path.endswith(name)]
        with system.open_input_stream(f"{root}/{path}") as file:
            content = file.read()
        if (content := edit(content)) is None:
            system.delete_file(f"{root}/{path}")
        else:
            with system.open_output_stream(f"{root}/{path}") as file:
                file.write(content)

    listing.change = change
    return listing


def flip_bit(content):
    return content[:500] + bytes([content[500] ^ 1]) + content[501:]


DAMAGE = {
    "truncated": ("model.safetensors", lambda content: content[:-1]),
    "emptied": ("model.safetensors", lambda content: b""),
    "flipped bit": ("model.safetensors", flip_bit),
    "file missing": ("state.json", lambda content: None),
    "manifest truncated": ("manifest.json", lambda content: content[:20]),
    "manifest emptied": ("manifest.json", lambda content: b""),
    "manifest without files": ("manifest.json", lambda content: b"{}"),
    "manifest with an empty list": ("manifest.json", lambda content: b'{"files": {}}'),
    "manifest of another kind": ("manifest.json", lambda content: b"[1]"),
    "manifest that leads outside": ("manifest.json", lambda content: b'{"files": {"../../secret": "0"}}'),
}


def test_newest_is_found_with_its_files(store):
    assert newest(store) == (2, b"\2")
    with store.verified(1) as folder:
        assert json.loads((folder / "state.json").read_text()) == {"step": 1, "trial": "a"}


def test_place_without_checkpoints(location):
    assert newest(CheckpointStore(location, keep=1)) is None
    assert CheckpointStore(location, keep=1).steps() == []


def test_hash_of_the_manifest_is_returned(store):
    returned = save(store, 3)
    with store.verified(3) as folder:
        assert returned == hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_newest_is_set_aside_and_the_older_one_used(store, location, files, damage):
    files.change(2, *damage)
    with pytest.raises(UserError, match="the checkpoint cannot be used"), store.verified(2):
        pass
    said = []
    reader = CheckpointStore(location, keep=2, on_bad=lambda step, message: said.append((step, message)))
    assert newest(reader) == (1, b"\1")
    assert store.steps() == [1]
    assert any(path.startswith("bad_step_000000002/") for path in files())
    assert len(said) == 1
    assert said[0][0] == 2
    assert said[0][1].startswith("checkpoint of step 2 is damaged (")
    save(store, 2)  # the step is reached again
    assert newest(store) == (2, b"\2")


def test_names_that_no_writer_gives_are_no_checkpoints(tmp_path):
    store = CheckpointStore(tmp_path, keep=1)
    save(store, 2)
    for name in ("step_9", "step_00000000010", "step_\u0661" + "0" * 8, "step_", "step_000000009x"):
        (tmp_path / name).mkdir()
    assert store.steps() == [2]
    assert newest(store) == (2, b"\2")


@pytest.mark.parametrize("copied", ["step", "trial"])
def test_checkpoint_of_another_step_or_trial_is_set_aside(tmp_path, copied):
    said = []
    owner = CheckpointStore(tmp_path, 9, on_bad=lambda _, message: said.append(message), owner="a")
    save(CheckpointStore(tmp_path, 9), 1)
    save(CheckpointStore(tmp_path / "other", 9), 2)
    other = tmp_path / "step_000000001" if copied == "step" else tmp_path / "other" / "step_000000002"
    if copied == "trial":
        (other / "state.json").write_text('{"step": 2, "trial": "b"}')
        files = manifest.hash_files(other, [path for path in other.rglob("*.*") if path.name != "manifest.json"])
        (other / "manifest.json").write_text(manifest.manifest_text(files))
    shutil.copytree(other, tmp_path / "step_000000002")
    assert newest(owner) == (1, b"\1")
    what = "step 1" if copied == "step" else "the trial b"
    assert said == [f"checkpoint of step 2 is damaged (state.json is that of {what}), moved to bad_step_000000002"]


def test_directory_in_place_of_a_file_is_damage(tmp_path):
    store = CheckpointStore(tmp_path, 9)
    for step in (1, 2):
        save(store, step)
    file = tmp_path / "step_000000002" / "state.json"
    file.unlink()
    file.mkdir()
    assert newest(store) == (1, b"\1")


@pytest.mark.parametrize("fails", [2, 99])
def test_checkpoint_that_cannot_be_read_is_tried_again_and_then_set_aside(tmp_path, monkeypatch, fails):
    said, tried = [], []
    store = CheckpointStore(tmp_path, 9, on_bad=lambda _, message: said.append(message))
    for step in (1, 2):
        save(store, step)
    look = manifest.fault

    def flaky(folder):
        tried.append(folder)
        if folder.name.endswith("2") and len(tried) <= fails:
            raise OSError(5, "Input/output error")
        return look(folder)

    monkeypatch.setattr(checkpoint, "READ_PAUSES", (0.0, 0.0))
    monkeypatch.setattr(checkpoint, "fault", flaky)
    refused = pytest.raises(UnreachableError, match="cannot be read") if fails == 99 else nullcontext()
    with refused, store.verified(2):
        pass
    tried.clear()
    assert newest(store) == ((2, b"\2") if fails == 2 else (1, b"\1"))
    assert len(tried) == (3 if fails == 2 else 4)
    assert said == (
        []
        if fails == 2
        else ["checkpoint of step 2 is damaged (it cannot be read: Input/output error), moved to bad_step_000000002"]
    )
    assert (tmp_path / "bad_step_000000002" / "state.json").exists() == (fails == 99), "it is kept"


def test_manifest_names_nothing_outside():
    for name in ("../../secret", "/etc/passwd", "state/../../x"):
        with pytest.raises(ValueError, match="lies outside of the checkpoint"):
            manifest.read_manifest(json.dumps({"files": {name: "0"}}))
        with pytest.raises(ValueError, match="lies outside of the checkpoint"):
            manifest.read_manifest(json.dumps({"folder": name, "files": {"a": "0"}}))


def test_folder_without_manifest_is_damaged(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    for step in (1, 2, 3, 4):
        save(store, step, best=(1, 2))
    (tmp_path / "step_000000004" / "manifest.json").unlink()
    shutil.rmtree(tmp_path / "step_000000003" / "state")
    shutil.rmtree(tmp_path / "step_000000002")
    (tmp_path / "step_000000002").mkdir()
    assert newest(store) == (1, b"\1")
    assert sorted(path.name for path in tmp_path.glob("bad_*")) == [f"bad_step_00000000{step}" for step in (2, 3, 4)]


def test_upload_without_manifest_is_no_checkpoint(files):
    location = f"memory://bucket/{next(NUMBERS)}"
    store = CheckpointStore(location, keep=2)
    draft = store.draft(3, "abc")
    draft.folder.mkdir()
    Content(3).write(draft.folder, Ranks())
    store.keep_files(draft, 0)
    system, root = open_store(location)
    assert len(system.get_file_info(pafs.FileSelector(root, recursive=True))) > 2
    assert store.steps() == []
    store.clean()
    assert system.get_file_info(pafs.FileSelector(root, recursive=True)) == []
    store.place.discard(draft, committed=False)


def test_damaged_twice_and_nothing_good_left(store, files):
    for step in (1, 2):
        files.change(step, *DAMAGE["flipped bit"])
    assert newest(store) is None
    save(store, 1)
    files.change(1, *DAMAGE["flipped bit"])
    assert newest(store) is None


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(28, "No space left on device"), SaveError),
        (RuntimeError("unexpected pos 64"), SaveError),
        (KeyError("a mistake"), KeyError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
@pytest.mark.parametrize("where", ["first file", "last file", "upload", "commit"])
def test_failed_write_leaves_nothing(store, files, monkeypatch, error, raised, where):
    before = files()

    def fail(*arguments):
        raise error

    class Broken(Content):
        def write(self, folder, ranks):
            if where == "last file":
                super().write(folder, ranks)
            ranks.together(fail)

    if where in ("upload", "commit"):
        monkeypatch.setattr(store.place, "send" if where == "upload" else "commit", fail)
    with pytest.raises(raised):
        save_checkpoint(store, Content(3) if where in ("upload", "commit") else Broken(3), Ranks())
    assert files() == before
    monkeypatch.undo()
    assert newest(store) == (2, b"\2")
    save(store, 3)
    assert newest(store) == (3, b"\3")


def test_leftovers_of_killed_writers_are_removed(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    save(store, 1)
    for name in (".writing_step_000000002-ab", ".removing_step_000000000"):
        (tmp_path / name / "state").mkdir(parents=True)
    assert store.steps() == [1]
    store.clean()
    assert [path.name for path in tmp_path.iterdir()] == ["step_000000001"]


def test_same_step_again_replaces_the_old_one(store):
    save(store, 2, byte=9)
    assert newest(store) == (2, b"\x09")
    assert store.steps() == [1, 2]


def test_newest_and_the_best_stay(location, files):
    store = CheckpointStore(location, keep=2)
    kept = []
    for step in range(1, 8):
        save(store, step, best=(min(step, 2), 4))
        kept.append(store.steps())
    assert kept == [[1], [1, 2], [2, 3], [2, 3, 4], [2, 4, 5], [2, 4, 5, 6], [2, 4, 6, 7]]
    assert {path.partition("/")[0] for path in files()} == {f"step_00000000{step}" for step in (2, 4, 6, 7)}


def test_what_a_rewind_took_back_goes_with_the_next_one(location):
    store = CheckpointStore(location, keep=2)
    for step in (4, 8, 9):
        save_checkpoint(store, Content(step), Ranks())
    save(store, 5)
    assert store.steps() == [4, 5]


def test_only_those_up_to_a_step_that_fit_are_looked_at(location, files):
    store = CheckpointStore(location, keep=9)
    for step in (2, 4, 5, 8):
        save(store, step)
    files.change(5, *DAMAGE["flipped bit"])
    with store.newest_good(latest=4, fits=lambda step, folder: (folder / "state.json").exists() and step != 4) as found:
        assert found[0] == 2
    assert store.steps() == [2, 4, 5, 8]


def test_one_that_was_written_again_is_the_one_that_is_known(location, files):
    first = CheckpointStore(location, keep=9)
    old = save(first, 1)
    store = CheckpointStore(location, keep=9, recorded={1: old})
    save(store, 1, byte=7)
    assert newest(store) == (1, b"\x07")


def test_old_one_that_cannot_be_removed_is_told_and_tried_again(store, monkeypatch):
    def refuse(name):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(store.place, "remove", refuse)
        save_checkpoint(store, Content(3), Ranks())
        assert "step_000000001: old checkpoints cannot be removed (Permission denied)" in store.retain(3, ())
    assert store.steps() == [1, 2, 3]
    assert store.retain(3, ()) is None
    assert store.steps() == [2, 3]


def test_superseded_writer_changes_nothing(store, location, files, tmp_path):
    files.change(2, *DAMAGE["flipped bit"])
    before = files()
    lock = tmp_path / "lock"
    lock.write_text("1 newer")
    old = CheckpointStore(location, keep=1, fence=Fence(lock, "older"))
    for change in (
        lambda: save(old, 3),
        lambda: old.retain(3, ()),
        lambda: newest(old),
        old.clean,
    ):
        with pytest.raises(SupersededError):
            change()
        assert files() == before
    lock.write_text("1 older")
    save(old, 3)
    assert newest(old) == (3, b"\3")


def test_folders_and_files_reach_the_disk_before_the_name_does(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(manifest.os, "fsync", lambda descriptor: order.append("flushed"))
    rename = folder.Path.rename
    monkeypatch.setattr(folder.Path, "rename", lambda self, to: (order.append("named"), rename(self, to))[1])
    save(CheckpointStore(tmp_path, keep=1), 1)
    # two files and the manifest, `state/` and the draft; then the folder's entry
    assert order == ["flushed"] * 5 + ["named", "flushed"]


def test_earlier_versions_checkpoint_is_refused_in_one_sentence(tmp_path):
    old = tmp_path / "step_000000001"
    old.mkdir()
    (old / "manifest.json").write_text('{"state.pt": "00"}')
    with pytest.raises(UserError, match=r"step_000000001: a checkpoint of an earlier version"):
        newest(CheckpointStore(tmp_path, keep=1))
    assert old.exists()


def test_store_that_does_not_answer_is_no_damage(monkeypatch):
    store = CheckpointStore(f"memory://bucket/{next(NUMBERS)}", keep=1)
    save(store, 1)

    def refuse(name, folder):
        raise OSError("connection reset")

    with monkeypatch.context() as patch:
        patch.setattr(store.place, "_download", refuse)
        with pytest.raises(UnreachableError, match=r"cannot be fetched \(connection reset\)"), store.verified(1):
            pass
        with pytest.raises(OSError, match="connection reset"):
            newest(store)
    assert newest(store) == (1, b"\1")


def test_place_is_checked_before_anything_starts(tmp_path):
    check_place(None)
    check_place(str(tmp_path / "new" / "place"))
    check_place(f"memory://bucket/{next(NUMBERS)}")
    assert [*(tmp_path / "new" / "place").iterdir()] == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UnreachableError, match=r"resources.checkpoints: .*file/place cannot be written"):
        check_place(str(tmp_path / "file" / "place"))
    with pytest.raises(UserError, match=r"resources.checkpoints: nonsense://place cannot be opened"):
        check_place("nonsense://place")


def test_place_of_a_trial(trial, tmp_path):
    work = trial()
    assert open_checkpoints(work, tmp_path).place.location == str(tmp_path / "checkpoints")
    elsewhere = trial(resources__checkpoints=str(tmp_path / "shared"))
    assert elsewhere.id == work.id
    assert Path(open_checkpoints(elsewhere, tmp_path).place.location) == tmp_path / "shared" / "loop" / work.id
    remote = trial(resources__checkpoints="memory://bucket/all")
    assert open_checkpoints(remote, tmp_path).place.location == f"memory://bucket/all/loop/{work.id}"
