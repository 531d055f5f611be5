"""Data sets are found one by one: what cannot be used is named, and hides no other."""

import json
from pathlib import Path

import pytest

from transvae_platform.cli.data import list_all
from transvae_platform.data.sets.catalogue import NoDataSetError, find_data_set, list_data_sets, look_through
from transvae_platform.data.sets.manifest import Manifest, write_manifest
from transvae_platform.data.sets.shards import Shard, image_field
from transvae_platform.errors import SpecError, UserError

SOUND, OLD, TORN = ("0" * 16, "1" * 16, "2" * 16)


@pytest.fixture
def home(tmp_path):
    """Of a data set, one of an older format, and one whose manifest is damaged."""
    shard = Shard("train-00000.arrow", "train", 4, 1000, "0")
    manifest = Manifest(SOUND, "images", (image_field(8),), 4, (shard,), (), {"resolution": 8}, {}, {})
    for name in (SOUND, OLD, TORN):
        (tmp_path / "data" / name).mkdir(parents=True)
    write_manifest(tmp_path / "data" / SOUND, manifest)
    (tmp_path / "data" / OLD / "manifest.json").write_text(json.dumps({"version": 1}))
    (tmp_path / "data" / TORN / "manifest.json").write_bytes(b'{"version": 2, "source": "\xff')
    return tmp_path


def test_manifests_that_cannot_be_used_hide_no_other(home):
    found, unusable = look_through(home)
    assert [data_set.manifest.fingerprint for data_set in found] == [SOUND]
    assert [text.partition("/manifest.json ")[0].rpartition("/")[2] for text in unusable] == [OLD, TORN]
    with pytest.raises(UserError, match=f"(?s){OLD}.*{TORN}"):
        list_data_sets(home)
    with pytest.raises(NoDataSetError, match=f"there are: {SOUND}"):
        find_data_set(home, "mine")
    with pytest.raises(UserError, match="is of format version 1"):
        find_data_set(home, OLD)


def test_they_are_told_below_the_others(home, capsys):
    list_all(home)
    told = capsys.readouterr().out
    assert told.index(SOUND) < told.index(f"not listed: {home}/data/{OLD}/manifest.json is of format") < len(told)
    list_all(home, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert [len(document[key]) for key in ("data_sets", "unusable")] == [1, 2]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("n" * 300, "no data set 'n{300}'"),
        ("a\0b", r"no data set 'a\\x00b'"),
        (__file__, "no data set '.*test_catalogue.py'"),
        ("s3://", "s3:// names no bucket"),
    ],
)
def test_references_that_can_be_none(home, reference, message):
    with pytest.raises(SpecError, match=message):
        find_data_set(home, reference)


def test_manifest_that_cannot_be_read_is_named(home, monkeypatch):
    def closed(path, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", closed)
    with pytest.raises(UserError, match=rf"{SOUND}/manifest.json cannot be read \(Permission denied\)"):
        find_data_set(home, SOUND)
