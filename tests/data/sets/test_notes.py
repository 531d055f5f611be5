"""Notes that a power failure emptied count as never written; names and results among them."""

import os
import shutil

import pytest

from transvae_platform.data.making.work import find_made, run, run_locally, write_result
from transvae_platform.data.sets import notes
from transvae_platform.data.sets.catalogue import find_data_set, give_name, list_data_sets
from transvae_platform.data.sets.notes import read_note, write_note
from transvae_platform.errors import SpecError


@pytest.mark.parametrize("content", [b"", b'{"finger', b"\x00" * 40, b"[]", b"\xff"])
def test_damaged_note_counts_as_absent(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    assert read_note(tmp_path / "a.json") is None
    assert read_note(tmp_path / "b.json") is None
    write_note(tmp_path / "a.json", {"b": 1})
    assert read_note(tmp_path / "a.json") == {"b": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_bytes_reach_the_disk_before_the_name(tmp_path, monkeypatch):
    synced = []

    def fsync(descriptor):
        synced.append((os.fstat(descriptor).st_size, (tmp_path / "a.json").exists()))

    monkeypatch.setattr(notes.os, "fsync", fsync)
    write_note(tmp_path / "a.json", {"b": 1})
    assert synced == [(len('{"b": 1}'), False)]


def test_empty_name_hides_no_other_data_set(photos, section, make_set, tmp_path):
    _, manifest = make_set(section(photos()))
    home = tmp_path / "home"
    give_name(home, "mine", manifest)
    (home / "data" / "names" / "broken.json").write_bytes(b"")
    assert find_data_set(home, "mine").manifest == manifest
    assert [data_set.names for data_set in list_data_sets(home)] == [("mine",)]


def test_name_of_another_data_set_is_not_taken_from_it(photos, section, make_set, tmp_path):
    images = photos()
    folder, manifest = make_set(section(images))
    _, other = make_set(section(images, resolution=24))
    home = tmp_path / "home"
    give_name(home, "mine", manifest)
    give_name(home, "mine", manifest)
    with pytest.raises(SpecError, match=rf"'mine' stands for {manifest.fingerprint} .* this is {other.fingerprint}"):
        give_name(home, "mine", other)
    assert find_data_set(home, "mine").manifest == manifest
    shutil.rmtree(folder)  # a name of nothing is free
    give_name(home, "mine", other)
    assert find_data_set(home, "mine").manifest == other


def test_empty_result_is_made_again(tmp_path):
    done = []

    def work_on(piece):
        done.append(piece["result"])
        write_result(piece, {"of": piece["items"]})

    work = [{"result": str(tmp_path / f"result-{number}.json"), "items": number} for number in (1, 2)]
    run(work_on, work, run_locally, None)
    (tmp_path / "result-2.json").write_bytes(b"")
    assert run(work_on, work, run_locally, None) == [{"of": 1}, {"of": 2}]
    assert done == [work[0]["result"], work[1]["result"], work[1]["result"]]


def test_damaged_pointer_leads_nowhere(tmp_path):
    (tmp_path / "data" / "made").mkdir(parents=True)
    for content in ("", "[]", "{}"):
        (tmp_path / "data" / "made" / "key.json").write_text(content)
        assert find_made(tmp_path, "key") is None
