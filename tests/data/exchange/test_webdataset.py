"""WebDataset tars: every sample with its class and caption, the same bytes each time, whole or not there."""

import errno
import io
import os
import tarfile
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from transvae_platform.data.exchange.webdataset import export_webdataset
from transvae_platform.data.listing import list_source
from transvae_platform.data.listing.reading import read_items
from transvae_platform.data.making.work import run_locally
from transvae_platform.data.pixels.decode import decode
from transvae_platform.data.sets.manifest import Manifest, read_manifest, write_manifest
from transvae_platform.data.sets.shards import image_field, write_shard
from transvae_platform.errors import SpecError, UnreachableError, UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), np.uint8)
LABELS = [0, 1, None, 3, 4, None, None, 7, 8]
CAPTIONS = ["a", None, "zwei\nZeilen, größer", None, None, None, None, None, None]


@pytest.fixture
def images(tmp_path):
    """7 training samples in two shards (the second without captions) and 2 for validation, two views per item."""
    folder = tmp_path / "images"
    folder.mkdir()
    shards = []
    for number, (split, start, stop) in enumerate([("train", 0, 4), ("train", 4, 7), ("validation", 7, 9)]):
        rows = np.arange(start, stop)
        columns = {"item": pa.array(rows // 2, pa.int64()), "view": pa.array(rows % 2, pa.int32())}
        columns["label"] = pa.array(LABELS[start:stop], pa.int32())
        if any(CAPTIONS[start:stop]):
            columns["caption"] = pa.array(CAPTIONS[start:stop], pa.string())
        shards.append(write_shard(folder / f"{number}.arrow", split, {image_field(8): PIXELS[start:stop]}, columns))
    write_manifest(
        folder,
        Manifest("a" * 16, "images", (image_field(8),), 5, tuple(shards), (), {"resolution": 8}, {}, {}),
    )
    return folder


def members(path):
    with tarfile.open(path) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar.getmembers()}


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def test_samples_with_classes_and_captions(images, tmp_path):
    files = export_webdataset(images, tmp_path / "out", run_locally, samples_per_tar=3)
    assert [path.name for path in files] == [
        "train-000000.tar", "train-000001.tar", "train-000002.tar", "validation-000000.tar",
    ]  # fmt: skip
    found = [members(path) for path in files]
    assert list(found[0]) == [
        "000000000_0000.png", "000000000_0000.cls", "000000000_0000.txt",
        "000000000_0001.png", "000000000_0001.cls",
        "000000001_0000.png", "000000001_0000.txt",
    ]  # fmt: skip
    assert found[0]["000000001_0000.txt"].decode() == "zwei\nZeilen, größer"
    assert found[0]["000000000_0001.cls"] == b"1"
    pictures = [content for part in found for name, content in part.items() if name.endswith(".png")]
    assert (np.stack([pixels(content) for content in pictures]) == PIXELS).all()
    everything = [name for part in found for name in part]
    assert len(set(everything)) == len(everything)


def test_tars_are_a_source_again(images, tmp_path):
    export_webdataset(images, tmp_path / "out", run_locally, samples_per_tar=3)
    table = list_source(str(tmp_path / "out")).table
    assert table["split"].to_pylist() == ["train"] * 7 + ["validation"] * 2
    assert table["label"].to_pylist() == LABELS
    assert table["caption"].to_pylist() == CAPTIONS
    assert all((decode(content) == PIXELS[place]).all() for place, content, _ in read_items(table))


def test_bytes_and_headers_are_always_the_same(images, tmp_path):
    one, other = (export_webdataset(images, tmp_path / name, run_locally) for name in ("one", "other"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]
    with tarfile.open(one[0]) as tar:
        assert {(entry.mtime, entry.uid, entry.gid, entry.uname, entry.mode) for entry in tar} == {(0, 0, 0, "", 0o644)}


def test_jpeg_on_request(images, tmp_path):
    (path, _) = export_webdataset(images, tmp_path / "out", run_locally, encoding="jpg")
    content = members(path)["000000000_0000.jpg"]
    assert Image.open(io.BytesIO(content)).format == "JPEG"
    assert pixels(content).shape == (8, 8, 3)


def test_killed_export_continues_with_whole_tars(images, tmp_path):
    undisturbed = export_webdataset(images, tmp_path / "undisturbed", run_locally, samples_per_tar=2)
    out = tmp_path / "out"

    def dying(function, work):
        function(work[0])
        yield work[0]
        (out / ".train-000001.tar.part-1").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_webdataset(images, out, dying, samples_per_tar=2)
    assert [path.name for path in out.glob("*.tar") if not path.name.startswith(".")] == ["train-000000.tar"]
    heard = []
    files = export_webdataset(
        images, out, run_locally, samples_per_tar=2, listen=lambda done, total: heard.append((done, total))
    )
    assert heard == [(2, 9), (4, 9), (6, 9), (7, 9), (9, 9)]
    assert [path.read_bytes() for path in files] == [path.read_bytes() for path in undisturbed]
    assert not list(out.glob(".*part*"))


def test_tar_that_could_not_be_finished_is_not_there(images, tmp_path, monkeypatch):
    from transvae_platform.data.exchange import webdataset

    monkeypatch.setattr(webdataset, "_encoded", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        export_webdataset(images, tmp_path / "out", run_locally)
    assert not [path for path in (tmp_path / "out").iterdir() if "tar" in path.name]


def test_folder_of_another_export_is_refused(images, tmp_path):
    export_webdataset(images, tmp_path / "out", run_locally)
    with pytest.raises(UserError, match="holds another export"):
        export_webdataset(images, tmp_path / "out", run_locally, samples_per_tar=2)
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "mine.tar").write_bytes(b"")
    with pytest.raises(UserError, match=r"mine.tar, which is not of this export"):
        export_webdataset(images, tmp_path / "strange", run_locally)


def test_wrong_options_and_sets_are_refused(images, tmp_path):
    for options in ({"encoding": "gif"}, {"samples_per_tar": 0}):
        with pytest.raises(SpecError, match="webdataset"):
            export_webdataset(images, tmp_path / "out", run_locally, **options)
    with pytest.raises(UserError, match="holds no finished data set"):
        export_webdataset(tmp_path, tmp_path / "out", run_locally)


def test_class_names_come_back(images, tmp_path):
    names = ["cat", *map(str, range(1, 8)), "größer"]
    write_manifest(images, replace(read_manifest(images), source={"classes": names}))
    files = export_webdataset(images, tmp_path / "out", run_locally)
    assert [path.suffix for path in files] == [".tar", ".tar"]
    listing = list_source(str(tmp_path / "out"))
    assert list(listing.classes) == names
    assert listing.table["label"].to_pylist() == LABELS


@pytest.mark.parametrize(("number", "way_out"), [(errno.ENOSPC, "free space or"), (errno.EMFILE, "mend that or")])
def test_only_a_full_disk_is_called_full(images, tmp_path, number, way_out):
    def failing(function, work):
        raise OSError(number, os.strerror(number))

    with pytest.raises(UnreachableError, match=rf"out: {os.strerror(number)} - {way_out} choose another folder"):
        export_webdataset(images, tmp_path / "out", failing)
