"""A data set exists once its manifest does, and the manifest finds what is damaged."""

import json
from dataclasses import asdict, replace

import pytest

from transvae_platform.data.sets import manifest as module
from transvae_platform.data.sets.manifest import Manifest, Quarantined, read_manifest, write_manifest
from transvae_platform.data.sets.shards import Shard, image_field
from transvae_platform.errors import UserError

MANIFEST = Manifest(
    fingerprint="f" * 16,
    kind="images",
    fields=(image_field(8),),
    items=9,
    shards=(
        Shard("a.arrow", "train", 5, 100, "0"),
        Shard("b.arrow", "train", 2, 50, "1"),
        Shard("c.arrow", "validation", 1, 30, "2"),
    ),
    quarantined=(Quarantined("x.png", "train", "the file is empty"),),
    settings={"resolution": 8},
    source={"location": "bundled", "layout": "bundled", "classes": []},
    versions={"pillow": "13"},
)


def test_round_trip_and_counts(tmp_path):
    write_manifest(tmp_path, MANIFEST)
    assert read_manifest(tmp_path) == MANIFEST
    assert (MANIFEST.samples("train"), MANIFEST.samples("validation")) == (7, 1)
    assert (MANIFEST.resolution, MANIFEST.bytes) == (8, 180)
    assert json.loads((tmp_path / "manifest.json").read_text())["quarantined"][0]["name"] == "x.png"


def test_data_set_without_a_manifest_does_not_exist(tmp_path):
    assert read_manifest(tmp_path) is None
    assert read_manifest(tmp_path / "absent") is None


def test_manifest_that_could_not_be_finished_leaves_the_old_one(tmp_path, monkeypatch):
    write_manifest(tmp_path, MANIFEST)

    def fail(values, file, **options):
        file.write('{"fingerprint":')
        raise OSError("No space left on device")

    monkeypatch.setattr(module.json, "dump", fail)
    with pytest.raises(OSError, match="No space"):
        write_manifest(tmp_path, replace(MANIFEST, fingerprint="g" * 16))
    assert read_manifest(tmp_path) == MANIFEST


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"version": 2}', "is damaged"),
        ('{"fingerprint": "f"}', "is of format version 1, this code reads 2 - ingest the source again"),
        ('{"version": 3}', "is of format version 3"),
    ],
)
def test_manifest_that_cannot_be_used_is_refused_by_name(tmp_path, text, message):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_manifest(tmp_path)
    assert "manifest.json" in str(caught.value)


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        (("shards", 0), "file", "../../payload.arrow"),
        (("shards", 0), "file", "/tmp/payload.arrow"),
        (("shards", 0), "file", "..\\payload.arrow"),
        (("shards", 0), "file", ".hidden.arrow"),
        (("shards", 0), "file", "manifest.json"),
        (("shards", 0), "file", "b.arrow"),
        (("shards", 0), "file", 7),
        ((), "fingerprint", "../f"),
        ((), "fingerprint", "f\n"),
        ((), "shards", []),
        (("shards", 1), "split", "test"),
        (("shards", 1), "records", 0),
        (("shards", 1), "records", True),
        (("shards", 1), "bytes", -1),
        (("shards", 1), "bytes", 1e18),
        (("fields", 0), "dtype", "object"),
        (("fields", 0), "shape", [8, -8, 3]),
        ((), "items", "x"),
        ((), "source", []),
        ((), "settings", {}),
        ((), "versions", None),
        ((), "statistics", [1]),
        ((), "quarantined", [1]),
        (("settings",), "resolution", "abc"),
        (("source",), "classes", 5),
    ],
)
def test_manifest_that_could_lead_readers_astray_is_refused(tmp_path, place, key, value):
    values = target = asdict(MANIFEST)
    for step in place:
        target = target[step]
    target[key] = value
    (tmp_path / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="is damaged"):
        read_manifest(tmp_path)
