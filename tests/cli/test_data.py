"""`transvae data ...` as a user types it, with the work done in this process instead of by Ray."""

import json
import shutil
import tarfile
import uuid
from pathlib import Path

import pytest
import yaml
from PIL import Image

from transvae_platform.data.making import images as making
from transvae_platform.data.sets.catalogue import find_data_set
from transvae_platform.data.sets.manifest import read_manifest
from transvae_platform.study.load import load_study


def test_ingest_says_what_it_made(made, tmp_path):
    for text in (
        "mine, ",
        "images of 64 x 64",
        "4 train, 2 validation",
        "classes:   2",
        "passed by: 1 file by suffix: 1 .heic",
        "arrays:    image 64 x 64 x 3 uint8",
        "view:      the central square, geometry shorter_side, seed 0",
        "held out:  a share of 0.3",
        "left out:  0 of 6 items",
    ):
        assert text in made.out
    assert "ingesting: 6 of 6" in made.err


def test_data_sets_are_listed_and_found_by_every_reference(made, data, tmp_path):
    (entry,) = json.loads(data("list", "--json").out)["data_sets"]
    assert entry["names"] == ["mine"]
    assert "mine" in data("list").out
    for reference in ("mine", entry["manifest"]["fingerprint"], entry["location"]):
        assert find_data_set(tmp_path / "home", reference).manifest.samples("train") == 4


def test_show_draws_a_contact_sheet(made, data, tmp_path):
    answer = data("show", "mine", "--out", tmp_path / "new" / "sheet.png")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[-1] == f"sheet:     {tmp_path}/new/sheet.png"
    with Image.open(tmp_path / "new" / "sheet.png") as sheet:
        assert sheet.width >= 4 * 64
    assert not set("{}()[]") & set(answer.out.replace(f"{tmp_path}/images (classes)", ""))  # words, no Python


def test_show_draws_beside_the_data_set(made, data, tmp_path):
    found = find_data_set(tmp_path / "home", "mine")
    inside = {path.name for path in Path(found.location).iterdir()}
    answer = data("show", "mine", "--split", "validation")
    assert answer.out.splitlines()[-1] == f"sheet:     {found.location}-validation.png"
    with Image.open(f"{found.location}-validation.png") as sheet:
        assert sheet.width >= 2 * 64
    assert {path.name for path in Path(found.location).iterdir()} == inside
    assert {path.name for path in (tmp_path / "home").iterdir()} == {"data"}
    assert len(json.loads(data("list", "--json").out)["data_sets"]) == 1


@pytest.mark.parametrize("out", ["images/a", "sheet.nonsense"])
def test_sheet_that_cannot_be_written_is_named(made, data, tmp_path, out):
    answer = data("show", "mine", "--out", tmp_path / out)
    assert answer.code == 2
    assert f"error: --out: {tmp_path}/{out} cannot be written" in answer.err


def test_export_says_what_it_wrote(made, data, tmp_path):
    answer = data("export", "mine", tmp_path / "tars", "--layout", "webdataset")
    assert answer.code == 0, answer.err
    for line in ("layout:    webdataset", "samples:   4 train, 2 validation", f"files:     2 in {tmp_path}/tars"):
        assert line in answer.out.splitlines()
    assert not set("{}()[]") & set(answer.out)


def test_verify_names_every_damaged_shard(data, images, tmp_path, monkeypatch):
    monkeypatch.setattr(making, "SHARD_RECORDS", 1)
    data("ingest", images, "--name", "mine", "--resolution", "64", "--holdout", "0.3")
    found = find_data_set(tmp_path / "home", "mine")
    paths = [Path(found.location) / shard.file for shard in found.manifest.shards]
    assert len(paths) == 6
    paths[0].write_bytes(paths[0].read_bytes()[:-1])
    paths[2].unlink()
    paths[5].write_bytes(bytes(len(paths[5].read_bytes())))
    answer = data("verify", "mine")
    assert answer.code == 1
    first, *lines = answer.err.partition("error: ")[2].splitlines()
    assert first.startswith("3 of 6 shards of mine are damaged - ")
    for path, line, what in zip(
        (paths[0], paths[2], paths[5]), lines, ("its SHA-256 is", "No such file", "its SHA-256 is"), strict=True
    ):
        assert line.startswith(f"  {path.name}: ")
        assert what in line


def test_verify_finds_a_changed_manifest(made, data, tmp_path):
    found = find_data_set(tmp_path / "home", "mine")
    path = Path(found.location) / "manifest.json"
    path.write_text(path.read_text().replace('"records": 4', '"records": 5'))
    answer = data("verify", "mine")
    assert answer.code == 1
    assert f"error: mine was changed - delete {found.location}" in answer.err
    assert "manifest.json: records of train-00001.arrow: it says 5, the shard 4" in answer.err
    answer = data("show", "mine")
    assert answer.code == 1
    assert "holds 4 records, its manifest says 5 - see `transvae data verify" in answer.err


def test_verify_finds_a_flipped_bit(made, data, tmp_path):
    assert "as the manifest says" in data("verify", "mine").out
    found = find_data_set(tmp_path / "home", "mine")
    path = Path(found.location) / found.manifest.shards[0].file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    answer = data("verify", "mine")
    assert answer.code == 1
    assert f"{path.name}: its SHA-256 is" in answer.err


def test_study_trains_from_the_data_set_by_its_name(made, transvae, study_file, tmp_path):
    home = tmp_path / "home"
    answer = transvae("study", "plan", study_file, "data.source=dataset", "data.path=mine", "data.resolution=64",
                      "recipe.batch_size=2", "--home", home)  # fmt: skip
    assert answer.code == 0, answer.err
    fingerprint = find_data_set(home, "mine").manifest.fingerprint
    from transvae_platform.cluster.planning import prepare

    changes = ("data={source: dataset, path: mine, resolution: 64}", "recipe.batch_size=2")
    prepared = prepare(load_study(study_file, changes), home)
    assert {trial.data_fingerprint for trial in prepared.trials} == {fingerprint}


def test_study_without_validation_images_is_refused_at_plan(data, images, transvae, study_file, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(next((images / "a").glob("*.[jp]*")), alone)
    answer = data("ingest", alone, "--name", "alone", "--resolution", "64")
    assert answer.code == 0, answer.err
    assert "1 train, 0 validation" in answer.out
    data("ingest", images, "--name", "whole", "--resolution", "64", "--layout", "folder", "--holdout", "0")
    assert find_data_set(tmp_path / "home", "whole").manifest.samples("validation") == 0
    for source, path, way_out in (
        ("dataset", "alone", "train on one that was ingested with a hold-out"),
        ("mixture", "", "train on one that was ingested with a hold-out"),
        ("folder", alone, "hold some out (data.holdout), or add images"),
    ):
        where = {"parts": {"alone": 1, "whole": 1}} if source == "mixture" else {"path": str(path)}
        study = yaml.safe_load(study_file.read_text())
        study["data"] = {"source": source, "resolution": 64, **where}
        (tmp_path / "new.yaml").write_text(yaml.safe_dump(study))
        answer = transvae("study", "plan", tmp_path / "new.yaml", "recipe.batch_size=1", "--home", tmp_path / "home")
        assert answer.code == 2
        assert "has no validation images, and studies validate" in answer.err
        assert way_out in answer.err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("path: mime, resolution: 64", "data.path: no data set 'mime' in"),
        ("path: mime, resolution: 64", "did you mean 'mine'?"),
        ("parts: {mine: 1, mime: 1}, resolution: 64", "data.parts.mime: no data set 'mime' in"),
        ("path: mine, resolution: 32", "data.resolution: the images of mine are 64 x 64, not 32 x 32"),
    ],
)
def test_study_on_a_data_set_that_does_not_fit_is_refused(made, transvae, study_file, tmp_path, changes, message):
    values = yaml.safe_load(study_file.read_text())
    source = "mixture" if "parts:" in changes else "dataset"
    values["data"] = yaml.safe_load(f"{{source: {source}, {changes}}}")
    study_file.write_text(yaml.safe_dump(values))
    answer = transvae("study", "plan", study_file, "--home", tmp_path / "home")
    assert answer.code == 2
    assert message in answer.err


def test_same_data_set_under_two_names_is_refused(made, data, transvae, study_file, tmp_path):
    fingerprint = find_data_set(tmp_path / "home", "mine").manifest.fingerprint
    values = yaml.safe_load(study_file.read_text())
    values["data"] = {"source": "mixture", "resolution": 64, "parts": {"mine": 1, fingerprint: 2}}
    study_file.write_text(yaml.safe_dump(values))
    answer = transvae("study", "plan", study_file, "--home", tmp_path / "home")
    assert answer.code == 2
    assert "data.parts: " in answer.err
    assert "are the same data set - name it once" in answer.err


def test_check_lists_every_problem_and_makes_nothing(data, images, tmp_path):
    (images / "a" / "empty.png").write_bytes(b"")
    (images / "b" / "page.jpg").write_bytes(b"<html>")
    answer = data("ingest", images, "--name", "mine", "--check")
    assert answer.code == 1
    assert "a/empty.png: the file is empty" in answer.out
    assert "b/page.jpg: " in answer.out
    assert "2 of 8 images cannot be used" in answer.out
    assert "passed by: 1 file by suffix: 1 .heic" in answer.out
    assert not (tmp_path / "home").exists()
    refused = data("ingest", images, "--name", "mine", "--resolution", "64")
    assert refused.code == 1
    assert "data.quarantine: 2 of 8 images cannot be used" in refused.err


def test_check_lists_broken_files_copies_and_bad_images_of_tars_together(data, images, tmp_path):
    with tarfile.open(tmp_path / "whole.tar", "w") as tar:
        for number, path in enumerate(sorted({*images.rglob("*")} - {*images.glob("*"), *images.rglob("*.heic")})[:4]):
            tar.add(path, f"{number}.{path.suffix[1:]}")
    content, source = (tmp_path / "whole.tar").read_bytes(), tmp_path / "tars"
    source.mkdir()
    for name, part in {"train-0": content, "val-0": content, "train-1": content[:999], "train-2": b"?" * 999}.items():
        (source / f"{name}.tar").write_bytes(part)
    answer = data("ingest", source, "--name", "mine", "--resolution", "64", "--check")
    assert answer.code == 1
    for name in ("train-1", "train-2"):
        assert f"{source}/{name}.tar is " in answer.out
    assert answer.out.count("identical to the held-out val-0.tar/") == 4
    assert "2 files cannot be read: what they hold was not checked" in answer.out
    assert "0 of 8 images cannot be used" in answer.out
    assert "4 of 8 images are left out of the training as copies of held-out ones" in answer.out
    refused = data("ingest", source, "--name", "mine", "--resolution", "64")
    assert refused.code == 2
    assert f"2 files of {source} cannot be used - mend each, or move it away:" in refused.err


def test_escape_sequences_in_names_do_not_reach_the_terminal(data, images):
    (images / "a" / "\x1b]0;mine\x07\x9b2J\n.png").write_bytes(b"")
    (images / "b" / "empty.png").write_bytes(b"")
    for option in ("--check", "--quarantine=0"):
        answer = data("ingest", images, "--name", "mine", "--resolution", "64", "--layout", "folder", option)
        assert answer.code == 1
        assert r"a/\x1b]0;mine\x07\x9b2J" in answer.out + answer.err
        assert not set("\x1b\x07\x9b") & set(answer.out + answer.err)


def test_small_images_are_counted_and_enlarged_on_request(data, images):
    with Image.open(next((images / "a").glob("*.[jp]*"))) as picture:
        picture.convert("RGB").resize((50, 40)).save(images / "a" / "small.png")
    answer = data("ingest", images, "--name", "mine", "--resolution", "64", "--check")
    assert answer.code == 1
    assert "a/small.png: 50 x 40 is smaller than the sample size 64 x 64" in answer.out
    assert "0 of 7 images cannot be used" in answer.out
    assert "1 of 7 images are too small" in answer.out
    assert data("ingest", images, "--name", "mine", "--resolution", "64", "--check", "--enlarge").code == 0
    answer = data("ingest", images, "--name", "mine", "--resolution", "64")
    assert "left out:  1 of 7 items, of them 1 too small" in answer.out
    answer = data("ingest", images, "--name", "all", "--resolution", "64", "--enlarge")
    assert "geometry shorter_side, small images enlarged, seed 0" in answer.out
    assert "left out:  0 of 7 items" in answer.out


def test_line_ends_in_names_are_spelt_out_everywhere(data, images, tmp_path):
    source = images.rename(tmp_path / "two\nlines\x1b[2J")
    (source / "a" / "bad\nname.png").write_bytes(b"")
    (source / "a" / "worse\nname.png").write_bytes(b"")
    refused = data("ingest", source, "--name", "mine", "--resolution", "64")
    assert "bad\\nname.png: the file is empty" in refused.err
    (source / "a" / "worse\nname.png").unlink()
    made = data("ingest", source, "--name", "mine", "--resolution", "64")
    assert made.code == 0, made.err
    hollow = tmp_path / "hollow\nfolder"
    hollow.mkdir()
    others = [data("ingest", hollow, "--name", "other"), data("list"), data("show", "mine")]
    others.append(data("ingest", source, "--name", "mine", "--resolution", "32"))
    for answer in (refused, made, *others):
        assert "\x1b" not in answer.out + answer.err
        for name in ("two\n", "bad\n", "hollow\n"):
            assert name not in answer.out + answer.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resolution", "2"], "--resolution: Input should be greater than or equal to 8"),
        (["--geometry", "admm"], "--geometry: Input should be 'shorter_side', 'adm' or 'shorter_side_bilinear'"),
        (["--layout", "imagnet"], "--layout: Input should be"),
        (["--holdout", "1.5"], "--holdout: Input should be less than or equal to 1"),
    ],
)
def test_impossible_option_is_named(data, images, options, message):
    answer = data("ingest", images, "--name", "mine", *options)
    assert answer.code == 2
    assert message in answer.err


def test_missing_folder_is_named(data, tmp_path):
    answer = data("ingest", tmp_path / "nowhere", "--name", "mine")
    assert answer.code == 2
    assert f"{tmp_path}/nowhere does not exist" in answer.err


def test_copy_to_a_store_and_use_it_from_there(made, data, tmp_path):
    location = f"memory://{uuid.uuid4().hex}/mine"
    assert data("copy", "mine", location).out.strip() == location
    found = find_data_set(tmp_path / "home", location)
    assert found.manifest == find_data_set(tmp_path / "home", "mine").manifest
    assert "as the manifest says" in data("verify", location).out
    back = tmp_path / "back"
    assert data("copy", location, back).out.strip() == str(back)
    assert read_manifest(back) == found.manifest
    answer = data("export", location, tmp_path / "tars", "--layout", "webdataset")
    assert answer.code == 0
    assert len(list((tmp_path / "tars").glob("*.tar"))) == 2
