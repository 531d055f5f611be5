"""From photographs to a data set: every bad file is named once, the bytes repeat, nothing is done twice."""

import hashlib
from dataclasses import asdict

import pytest

from transvae_platform.data import ingest as module
from transvae_platform.data.ingest import ingest, run_locally
from transvae_platform.data.shards import read_manifest, read_shard
from transvae_platform.data.sources import list_photographs
from transvae_platform.data.split import split_photographs
from transvae_platform.data.stream import open_data
from transvae_platform.errors import UserError


def files(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_every_photograph_gives_its_samples_to_its_side(photos, section, make_set):
    data = section(photos(6), holdout=["p2"], view={"kind": "crops", "per_photograph": 4})
    folder, manifest = make_set(data)
    assert (manifest.samples("train"), manifest.samples("validation")) == (20, 4)
    assert (manifest.photographs, manifest.skipped, manifest.resolution) == (6, (), 16)
    assert {shard.file: shard.sha256 for shard in manifest.shards}.items() <= files(folder).items()


def test_corrupt_files_among_good_ones_are_named_once_and_move_nothing(photos, section, make_set):
    folder = photos(6)
    data = section(folder, holdout=["p2"])
    clean, _ = make_set(data, "clean")
    good = read_shard(clean / "train-00000.arrow", 16)
    half = (folder / "p0.png").read_bytes()[:200]
    for name, content in {"bad-cut.png": half, "bad-empty.jpg": b"", "zz.png": b"<html>"}.items():
        (folder / name).write_bytes(content)
    (folder / "small.png").write_bytes((folder / "p0.png").read_bytes())
    folder_with_bad, manifest = make_set(data, "dirty")
    reasons = {skip.name: skip.reason for skip in manifest.skipped}
    assert list(reasons) == ["bad-cut.png", "bad-empty.jpg", "zz.png"]
    assert reasons["bad-empty.jpg"] == "the file is empty"
    assert all(reasons.values())
    assert manifest.photographs == 10
    both = read_shard(folder_with_bad / "train-00000.arrow", 16)
    assert (both[:5] == good).all()  # samples keep their order and their pixels
    assert len(both) == 6


def test_bytes_repeat_and_do_not_depend_on_the_order_of_work(photos, section, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SAMPLES_PER_SHARD", 8)
    data = section(photos(6), view={"kind": "crops", "per_photograph": 4})
    photographs = list_photographs(data)
    forwards = ingest(photographs, data, tmp_path / "a", run_locally)
    backwards = ingest(photographs, data, tmp_path / "b", lambda function, work: list(map(function, work[::-1])))
    assert len(forwards.shards) > 2
    assert forwards == backwards
    where = f"data/{forwards.fingerprint}"
    assert files(tmp_path / "a" / where) == files(tmp_path / "b" / where)


def test_second_call_finds_the_data_set_made(photos, section, tmp_path):
    data = section(photos(4))
    photographs = list_photographs(data)
    first = ingest(photographs, data, tmp_path, run_locally)
    assert ingest(photographs, data, tmp_path, lambda function, work: pytest.fail("made again")) == first


def test_interrupted_ingest_is_done_again(photos, section, tmp_path):
    data = section(photos(4))
    photographs = list_photographs(data)

    def killed(function, work):
        function(work[0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(photographs, data, tmp_path, killed)
    (folder,) = (tmp_path / "data").iterdir()
    assert read_manifest(folder) is None
    assert ingest(photographs, data, tmp_path, run_locally).samples("train") == 3


def test_side_without_a_readable_photograph_is_refused_with_reasons(photos, section, tmp_path):
    folder = photos(3)
    (folder / "p1.png").write_bytes(b"")
    data = section(folder, holdout=["p1"])
    photographs = list_photographs(data)
    assert split_photographs(photographs, data)[1]
    with pytest.raises(UserError, match=r"data: no validation photograph could be used \(p1.png: the file is empty\)"):
        ingest(photographs, data, tmp_path, run_locally)
    assert not list((tmp_path / "data").iterdir())


def test_folder_of_small_pictures_is_refused(photos, section, tmp_path):
    data = section(photos(3), resolution=64)
    with pytest.raises(
        UserError, match=r"no train photograph could be used .* is smaller than the sample size 64 x 64"
    ):
        ingest(list_photographs(data), data, tmp_path, run_locally)


def test_work_travels_as_plain_values(photos, section, tmp_path):
    import json

    def through_text(function, work):
        return [json.loads(json.dumps(function(json.loads(json.dumps(item))))) for item in work]

    data = section(photos(4), holdout=["p1"], view={"kind": "crops", "per_photograph": 2})
    photographs = list_photographs(data)
    there = ingest(photographs, data, tmp_path / "a", through_text)
    assert asdict(there) == asdict(ingest(photographs, data, tmp_path / "b", run_locally))


def test_opening_a_data_set_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="holds no finished data set - is the study's home on a shared file system"):
        open_data(tmp_path, "f" * 16)
