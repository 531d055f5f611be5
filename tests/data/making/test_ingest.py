"""From images to a data set: every bad file is named once, the bytes repeat, nothing is done twice."""

import hashlib
import multiprocessing
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest
from PIL import Image

from transvae_platform.data.listing import list_source, reading
from transvae_platform.data.making import images as make
from transvae_platform.data.making import ingest as module
from transvae_platform.data.making.ingest import ingest
from transvae_platform.data.making.lock import locked
from transvae_platform.data.making.work import run_locally
from transvae_platform.data.sets.catalogue import DataSet, list_data_sets
from transvae_platform.data.sets.shards import ShardFile
from transvae_platform.errors import UnreachableError, UserError

CROPS = {"kind": "crops", "per_photograph": 4}


def files(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def backwards(function, work):
    return list(run_locally(function, work[::-1]))


def test_every_image_gives_its_samples_to_its_side(photos, section, make_set):
    data = section(photos(6), holdout=["p2"], view=CROPS)
    folder, manifest = make_set(data)
    assert (manifest.samples("train"), manifest.samples("validation")) == (20, 4)
    assert (manifest.items, manifest.quarantined, manifest.resolution) == (6, (), 16)
    assert {shard.file: shard.sha256 for shard in manifest.shards}.items() <= files(folder).items()
    assert set(files(folder)) == {shard.file for shard in manifest.shards} | {"manifest.json"}
    file = ShardFile(folder / manifest.shards[0].file)
    assert file.column("item").to_pylist() == [2, 2, 2, 2]
    assert file.column("view").to_pylist() == [0, 1, 2, 3]
    content = Path(data.path, "p2.png").read_bytes()
    assert file.column("sha256")[0].as_py() == hashlib.sha256(content).digest()


def test_labels_travel_with_the_samples(photos, section, make_set):
    folder = photos(6)
    for index in range(6):
        (folder / "ab"[index % 2]).mkdir(exist_ok=True)
        (folder / f"p{index}.png").rename(folder / "ab"[index % 2] / f"p{index}.png")
    made, manifest = make_set(section(folder, holdout=["p5"]))
    assert manifest.source["classes"] == ["a", "b"]
    train = ShardFile(made / manifest.shards[1].file)
    assert train.column("label").to_pylist() == [0, 0, 0, 1, 1]
    assert train.column("caption") is None


def test_corrupt_files_among_good_ones_are_named_once_and_move_nothing(photos, section, make_set):
    folder = photos(6)
    data = section(folder, holdout=["p2"], quarantine=0.5)
    clean, _ = make_set(data, "clean")
    good = ShardFile(clean / "train-00001.arrow").array("image")
    half = (folder / "p0.png").read_bytes()[:200]
    for name, content in {"bad-cut.png": half, "bad-empty.jpg": b"", "zz.png": b"<html>"}.items():
        (folder / name).write_bytes(content)
    (folder / "zzz.png").write_bytes((folder / "p0.png").read_bytes())
    folder_with_bad, manifest = make_set(data, "dirty")
    reasons = {item.name: item.reason for item in manifest.quarantined}
    assert list(reasons) == ["bad-cut.png", "bad-empty.jpg", "zz.png"]
    assert reasons["bad-empty.jpg"] == "the file is empty"
    assert all(reasons.values())
    assert manifest.items == 10
    both = ShardFile(folder_with_bad / "train-00001.arrow").array("image")
    assert (both[:5] == good).all()  # samples keep their order and their pixels
    assert len(both) == 6


def test_quarantine_is_part_of_the_fingerprint(photos, section, make_set):
    folder = photos(6)
    data = section(folder, holdout=["p0"])
    _, clean = make_set(data, "clean")
    (folder / "zz.png").write_bytes(b"")
    _, empty = make_set(data, "empty")
    (folder / "zz.png").write_bytes(b"no image")
    _, other = make_set(data, "other")
    assert len({clean.fingerprint, empty.fingerprint, other.fingerprint}) == 3


def test_too_many_unreadable_images_end_the_ingest_with_their_names(photos, section, make_set, tmp_path):
    folder = photos(6)
    for name in ("x.png", "y.png"):
        (folder / name).write_bytes(b"")
    with pytest.raises(UserError) as caught:
        make_set(section(folder))
    assert "data.quarantine: 2 of 8 images cannot be used, more than the allowed share of 0.001" in str(caught.value)
    assert "x.png: the file is empty" in str(caught.value)
    (work,) = (path for path in (tmp_path / "home" / "data").iterdir() if path.is_dir())
    assert len(list(work.glob("result-*.json"))) == 2
    made = []

    def counting(function, pieces):
        made.extend(pieces)
        return run_locally(function, pieces)

    data = section(folder, quarantine=0.5)  # a raised share continues
    ingest(list_source(data.path), data, tmp_path / "home", counting)
    assert made == []
    (folder / "x.png").unlink()
    assert make_set(section(folder))[1].quarantined[0].name == "y.png"  # one always may


def test_data_set_made_with_a_larger_share_is_refused_for_a_smaller_one(photos, section, make_set):
    folder = photos(6)
    for name in ("x.png", "y.png"):
        (folder / name).write_bytes(b"")
    made, _ = make_set(section(folder, quarantine=0.5))
    with pytest.raises(UserError, match=r"2 of 8 images cannot be used, more than the allowed share of 0\.001"):
        make_set(section(folder))
    assert make_set(section(folder, quarantine=0.3))[0] == made


def test_image_that_could_not_be_read_is_looked_at_again(photos, section, make_set, monkeypatch):
    data, opened = section(photos(6), quarantine=0.3), reading.open_bytes

    def closed(path):  # as a file without the permission; `root` opens those, too
        if path.endswith("p3.png"):
            raise PermissionError(13, "Permission denied")
        return opened(path)

    monkeypatch.setattr(reading, "open_bytes", closed)
    before, manifest = make_set(data)
    assert [item.name for item in manifest.quarantined] == ["p3.png"]
    with monkeypatch.context() as patch:
        patch.setattr(module, "_make", None)  # still closed: nothing is made
        assert make_set(data) == (before, manifest)
    monkeypatch.undo()
    after, manifest = make_set(data)
    assert after != before
    assert manifest.quarantined == ()
    assert make_set(data)[0] == after


def test_what_is_passed_over_is_counted_each_time(photos, section, make_set):
    folder = photos(6)
    before, manifest = make_set(section(folder))
    (folder / "new.heic").touch()
    after, counted = make_set(section(folder))
    assert (after, manifest.source["passed_over"], counted.source["passed_over"]) == (before, {}, {".heic": 1})


def test_training_image_that_is_also_held_out_is_left_out(photos, section, make_set):
    folder = photos(6)
    shutil.copy(folder / "p2.png", folder / "copy.png")
    made, manifest = make_set(section(folder, holdout=["p2"], view=CROPS))
    assert [(item.name, item.reason) for item in manifest.quarantined] == [
        ("copy.png", "identical to the held-out p2.png")
    ]
    assert manifest.samples("train") == 20
    hashes = {
        side: {
            value.as_py()
            for shard in manifest.shards if shard.split == side
            for value in ShardFile(made / shard.file).column("sha256")
        }
        for side in ("train", "validation")
    }  # fmt: skip
    assert not hashes["train"] & hashes["validation"]


def test_bytes_repeat_and_do_not_depend_on_the_order_of_work(photos, section, tmp_path, small_shards):
    data = section(photos(6), view=CROPS)
    listing = list_source(data.path)
    first = ingest(listing, data, tmp_path / "a", run_locally)
    second = ingest(listing, data, tmp_path / "b", backwards)
    assert len(first.shards) > 2
    assert first == second
    where = f"data/{first.fingerprint}"
    assert files(tmp_path / "a" / where) == files(tmp_path / "b" / where)


def test_fingerprint_changes_with_the_samples_only(photos, section, make_set):
    folder = photos(3)

    def fingerprint(home, where=folder, **changes):
        return make_set(section(where, **changes), home)[1].fingerprint

    base = fingerprint("0")
    shutil.copytree(folder, folder.with_name("elsewhere"))  # other place, other times
    assert fingerprint("1", folder.with_name("elsewhere")) == base
    assert fingerprint("2", sampling={"flip": False}) == base
    assert fingerprint("3", quarantine=0.5) == base
    others = [
        fingerprint("4", resolution=24), fingerprint("5", seed=1), fingerprint("6", holdout=0.2),
        fingerprint("7", holdout=["p0"]), fingerprint("8", view={"kind": "crops"}),
        fingerprint("9", view={"kind": "crops", "per_photograph": 3}),
        fingerprint("10", view={"kind": "centre", "geometry": "adm"}),
    ]  # fmt: skip
    (folder / "p1.png").rename(folder / "p9.png")
    others.append(fingerprint("11"))
    assert len({base, *others}) == 1 + len(others)


def test_second_call_finds_the_data_set_made_and_touched_files_are_read_again(photos, section, tmp_path):
    folder = photos(4)
    data = section(folder)
    first = ingest(list_source(data.path), data, tmp_path, run_locally)

    def never(function, work):
        pytest.fail("made again")

    assert ingest(list_source(data.path), data, tmp_path, never) == first
    (folder / "p0.png").write_bytes((folder / "p1.png").read_bytes())
    assert ingest(list_source(data.path), data, tmp_path, run_locally).fingerprint != first.fingerprint


def test_damaged_data_set_is_made_again(photos, section, make_set):
    data = section(photos(4))
    folder, manifest = make_set(data)
    (folder / manifest.shards[0].file).write_bytes(b"short")
    again, other = make_set(data)
    assert (again, other) == (folder, manifest)
    assert files(folder)[manifest.shards[0].file] == manifest.shards[0].sha256


@pytest.mark.parametrize("harm", [lambda text: text[: len(text) // 2], lambda text: b"\xff" + text])
def test_data_set_whose_manifest_is_damaged_is_set_aside_and_made_again(photos, section, make_set, harm):
    data = section(photos(4))
    folder, manifest = make_set(data)
    path = folder / "manifest.json"
    harmed = harm(path.read_bytes())
    path.write_bytes(harmed)
    assert make_set(data) == (folder, manifest)
    assert (folder.parent / "bad" / folder.name / "manifest.json").read_bytes() == harmed
    assert list_data_sets(folder.parent.parent) == [DataSet(manifest, str(folder))]


def test_damage_of_the_same_size_is_found_when_the_source_is_read_again(photos, section, make_set):
    data = section(photos(4))
    folder, manifest = make_set(data)
    shard = folder / manifest.shards[0].file
    shard.write_bytes(bytes(shard.stat().st_size))
    shutil.rmtree(folder.parent / "made")  # as if its files had been touched
    assert make_set(data) == (folder, manifest)
    assert files(folder)[shard.name] == manifest.shards[0].sha256


def test_interrupted_ingest_continues_and_ends_with_the_same_bytes(photos, section, tmp_path, small_shards):
    data = section(photos(6), view=CROPS)
    listing = list_source(data.path)
    whole = ingest(listing, data, tmp_path / "whole", run_locally)
    done = []

    def killed(function, work):
        for piece in work[:2]:
            function(piece)
            done.append(piece["result"])
            yield piece
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(listing, data, tmp_path / "cut", killed)

    def rest(function, work):
        assert not {piece["result"] for piece in work} & set(done)
        return run_locally(function, work)

    told = []
    again = ingest(listing, data, tmp_path / "cut", rest, lambda *state: told.append(state))
    assert again == whole
    where = f"data/{whole.fingerprint}"
    assert files(tmp_path / "cut" / where) == files(tmp_path / "whole" / where)
    assert told[-1] == (6, 6)
    assert told[0][0] > 2  # what was done before counts


@pytest.mark.parametrize("pieces", [0, 1, 3])
def test_ingest_killed_in_the_middle_continues_to_the_same_bytes(photos, section, tmp_path, small_shards, pieces):
    data = section(photos(8), view={"kind": "crops", "per_photograph": 8})
    listing = list_source(data.path)
    whole = ingest(listing, data, tmp_path / "whole", run_locally)
    assert len(whole.shards) > 4

    def killed_while_writing(function, work):
        for number, piece in enumerate(work):
            if number == pieces:
                Path(piece["shard"]).with_name(".half.arrow").write_bytes(b"half a shard")
                os.kill(os.getpid(), signal.SIGKILL)
            function(piece)
            yield piece

    process = multiprocessing.get_context("fork").Process(
        target=ingest, args=(listing, data, tmp_path / "cut", killed_while_writing)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (folder,) = (path for path in (tmp_path / "cut" / "data").iterdir() if path.is_dir())
    assert len(list(folder.glob("result-*.json"))) == pieces
    assert ingest(listing, data, tmp_path / "cut", run_locally) == whole
    where = f"data/{whole.fingerprint}"
    assert files(tmp_path / "cut" / where) == files(tmp_path / "whole" / where)
    assert left_in(tmp_path / "cut") == {whole.fingerprint, "made"}


def left_in(home):
    return {path.name for path in (home / "data").iterdir()}


def killed(function, work):
    os.kill(os.getpid(), signal.SIGKILL)


def kill_an_ingest(listing, data, home):
    process = multiprocessing.get_context("fork").Process(target=ingest, args=(listing, data, home, killed))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_what_a_killed_ingest_left_goes_when_the_source_changed_meanwhile(photos, section, tmp_path):
    folder = photos(4)
    data, other = section(folder), section(folder, seed=1)
    kill_an_ingest(list_source(data.path), data, tmp_path)
    kill_an_ingest(list_source(data.path), other, tmp_path)
    before = left_in(tmp_path)
    assert len(before) == 4  # two folders with their locks
    (folder / "p3.png").unlink()
    made = ingest(list_source(data.path), data, tmp_path, run_locally)
    assert len(left_in(tmp_path) & before) == 2  # those of the other ingest
    assert left_in(tmp_path) - before == {made.fingerprint, "made"}


def test_what_was_left_goes_when_the_data_set_is_found_made(photos, section, tmp_path):
    data = section(photos(4))
    kill_an_ingest(list_source(data.path), data, tmp_path)
    (lock,) = (tmp_path / "data").glob("*.lock")
    made = ingest(list_source(data.path), data, tmp_path, run_locally)
    lock.touch()  # as if killed between the publishing and the removal of the lock
    assert ingest(list_source(data.path), data, tmp_path, run_locally) == made
    assert left_in(tmp_path) == {made.fingerprint, "made"}


def test_an_ingest_at_work_is_not_swept_away(photos, section, tmp_path):
    folder = photos(4)
    data = section(folder)
    listing, results = list_source(data.path), []

    def meanwhile(function, work):  # the source gains an image and the same command is given again
        Image.new("RGB", (40, 30), "red").save(folder / "p9.png")
        results.append(ingest(list_source(data.path), data, tmp_path, run_locally))
        return run_locally(function, work)

    first = ingest(listing, data, tmp_path, meanwhile)
    assert (first.items, results[0].items) == (4, 5)
    assert left_in(tmp_path) == {first.fingerprint, results[0].fingerprint, "made"}


def test_two_ingests_at_once_make_the_data_set_once(photos, section, tmp_path, monkeypatch):
    data = section(photos(6))
    listing, made, results = list_source(data.path), [], []
    real = make.make_shard

    def counted(work):
        made.append(work["shard"])
        real(work)

    monkeypatch.setattr(module, "make_shard", counted)
    threads = [
        threading.Thread(target=lambda: results.append(ingest(listing, data, tmp_path, run_locally))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert results[0] == results[1] == results[2]
    assert len(made) == len(set(made)) == len(results[0].shards)
    assert left_in(tmp_path) == {results[0].fingerprint, "made"}


def test_equal_data_sets_of_two_places_are_published_one_after_the_other(photos, section, make_set, tmp_path):
    made, manifest = make_set(section(photos(5, "one")))
    other = section(photos(5, "two"))
    second = threading.Thread(target=ingest, args=(list_source(other.path), other, tmp_path / "home", run_locally))
    with locked(made.with_name(f".{manifest.fingerprint}.lock")):  # as whoever publishes the same now
        second.start()
        second.join(0.5)
        assert len(list(made.parent.glob(".making-*/manifest.json"))) == 1
    second.join()
    assert [path.name for path in made.parent.iterdir() if path.name.startswith(".")] == []


def test_full_disk_is_named_and_done_work_is_kept(photos, section, tmp_path, monkeypatch):
    data = section(photos(4))
    listing = list_source(data.path)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(make, "write_shard", full)
        with pytest.raises(UnreachableError, match="No space left on device - free space or choose another --home"):
            ingest(listing, data, tmp_path, run_locally)
    assert ingest(listing, data, tmp_path, run_locally).samples("train") == 3


@pytest.mark.parametrize("harm", ["lost", "twice", "swapped"])
def test_records_that_are_not_those_planned_are_noticed(photos, section, tmp_path, monkeypatch, harm):
    data = section(photos(6))
    listing = list_source(data.path)
    real = make.write_shard

    def harmed(path, split, fields, columns):
        if split == "train":
            rows = {"lost": [0, 1, 2, 3], "twice": [0, 1, 2, 3, 4, 4], "swapped": [1, 0, 2, 3, 4]}[harm]
            fields = {field: values[rows] for field, values in fields.items()}
            columns = {name: column.take(rows) for name, column in columns.items()}
        return real(path, split, fields, columns)

    monkeypatch.setattr(make, "write_shard", harmed)
    with pytest.raises(UserError, match="records were written, 6 were planned, or their order differs"):
        ingest(listing, data, tmp_path, run_locally)
