"""A data set that was changed is found out, whatever was changed: the shards, or what the manifest says of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from transvae import create_model
from transvae_platform.cli.data import verify
from transvae_platform.data.exchange.lightningdit import export_lightningdit
from transvae_platform.data.exchange.lightningdit_import import import_lightningdit
from transvae_platform.data.latents.extract import extract_latents, plan_extraction
from transvae_platform.data.making import images as module
from transvae_platform.data.making.verify import find_damage
from transvae_platform.data.making.work import run_locally
from transvae_platform.data.sets.manifest import read_manifest
from transvae_platform.data.sets.samples import open_data
from transvae_platform.errors import UserError


@pytest.fixture
def images(tmp_path, noise, make_set, section, monkeypatch):
    """8 labelled images in several shards, one left out."""
    monkeypatch.setattr(module, "SHARD_RECORDS", 3)
    for number in range(9):
        (tmp_path / "photos" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        noise(40, 30, seed=number).save(tmp_path / "photos" / "ab"[number % 2] / f"p{number}.png")
    (tmp_path / "photos" / "a" / "p0.png").write_bytes(b"")
    return make_set(section(tmp_path / "photos", holdout=0.3))[0]


@pytest.fixture
def latents(images, tmp_path):
    torch.manual_seed(0)
    create_model("vit-micro-T/f8d8").save_pretrained(tmp_path / "model")
    plan = plan_extraction(read_manifest(images), images, tmp_path / "model", model_name="m")
    manifest = extract_latents(plan, tmp_path / "home", run_locally)
    return tmp_path / "home" / "data" / manifest.fingerprint


def changed(folder: Path, change) -> list[str]:
    """What is told of the data set with its manifest changed."""
    values = json.loads((folder / "manifest.json").read_text())
    change(values)
    (folder / "manifest.json").write_text(json.dumps(values))
    found = find_damage(str(folder), read_manifest(folder))
    assert {damage.file for damage in found} <= {"manifest.json"}
    return [damage.problem for damage in found]


def setting(*keys):
    """A change of the value at the end of these keys."""
    *path, last, value = keys

    def change(values):
        for key in path:
            values = values[key]
        values[last] = value

    return change


def test_sound_data_sets_are_as_their_manifests_say(images, latents):
    for folder in (images, latents):
        manifest, told = read_manifest(folder), []
        assert find_damage(str(folder), manifest, lambda *done, told=told: told.append(done)) == []
        assert told[-1] == (len(manifest.shards), len(manifest.shards))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (setting("items", 10), "items: it says 10, the shards hold 8 and 1 left out"),
        (setting("shards", 0, "records", 7), "records of validation-00000.arrow: it says 7, the shard 2"),
        (setting("shards", 1, "bytes", 7), "bytes of train-00001.arrow: it says 7, the shard "),
        (
            setting("shards", 0, "split", "train"),
            "split of validation-00000.arrow: it says train, the",
        ),
        (setting("fields", 0, "shape", [8, 32, 3]), "fields of validation-00000.arrow: it says (Field(name='image'"),
        (setting("fingerprint", "a" * 16), "fingerprint: it says aaaaaaaaaaaaaaaa, but its settings, classes and "),
        (setting("settings", "seed", 7), "fingerprint: it says "),
        (setting("settings", "view", "geometry", "adm"), "fingerprint: it says "),
        (setting("source", "classes", ["a", "c"]), "fingerprint: it says "),
        (setting("quarantined", 0, "reason", "looks odd"), "fingerprint: it says "),
        (setting("versions", "format", "{"), "versions: format is no JSON"),
        (setting("quarantined", []), "items: it says 9, the shards hold 8 and 0 left out"),
        (lambda values: values["shards"].reverse(), "fingerprint: it says "),
        (lambda values: values["shards"].pop(), "items: it says 9, the shards hold "),
    ],
)
def test_every_change_of_a_manifest_is_told(images, change, problem):
    problems = changed(images, change)
    assert any(told.startswith(problem) for told in problems), problems


def test_where_the_images_lay_is_anybodys_to_say(images):
    assert changed(images, setting("source", "location", "elsewhere")) == []


def test_a_sample_twice_is_told(images):
    def twice(values):
        source, copy = (values["shards"][number]["file"] for number in (1, 2))
        (images / copy).write_bytes((images / source).read_bytes())
        values["shards"][2] = {**values["shards"][1], "file": copy}

    assert any(told.startswith("shards: they hold a sample twice") for told in changed(images, twice))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (setting("statistics", "mean", 0, 5.0), "statistics: they are not those of the training latents"),
        (setting("statistics", "std", []), "statistics: they are not those of the training latents"),
        (setting("settings", "model", "weights_sha256", "0" * 64), "fingerprint: it says "),
        (setting("items", 4), "items: it says 4, the shards hold 8 and 1 left out"),
    ],
)
def test_changed_latents_are_told(latents, change, problem):
    problems = changed(latents, change)
    assert any(told.startswith(problem) for told in problems), problems


@pytest.mark.parametrize("statistics", [True, False])
def test_imported_latents_are_verified(latents, tmp_path, statistics):
    export_lightningdit(latents, tmp_path / "out", run_locally)
    if not statistics:
        (tmp_path / "out" / "latents_stats.pt").unlink()
    manifest = import_lightningdit(
        {"train": tmp_path / "out"}, tmp_path / "home", run_locally, resolution=16, model={"name": "m"}
    )
    folder = tmp_path / "home" / "data" / manifest.fingerprint
    assert find_damage(str(folder), manifest) == []
    assert changed(folder, setting("statistics", "mean", 0, 5.0))
    assert changed(folder, setting("settings", "model", "name", "another"))


def test_data_set_on_a_store_is_verified(images, memory_copy):
    location = memory_copy(images)
    manifest = read_manifest(images)
    assert find_damage(location, manifest) == []
    assert [damage.file for damage in find_damage(f"{location}/nowhere", manifest)] == [
        shard.file for shard in manifest.shards
    ]


def test_manifest_without_its_format_is_not_called_sound(images, capsys):
    def older(values):
        del values["versions"]["format"]
        values["settings"]["seed"] = 7

    verify(str(images))
    assert "as the manifest says" in capsys.readouterr().out
    assert changed(images, older) == []
    with pytest.raises(UserError, match=r"its fingerprint cannot be checked.*lacks versions\.format"):
        verify(str(images))


def test_reading_a_data_set_that_was_changed_is_one_clear_error(images, tmp_path):
    changed(images, setting("shards", 1, "records", 7))
    train, _ = open_data(str(images), tmp_path, 10**9)
    for read in (lambda: train.column(np.array([5]), "label"), lambda: train.read(np.array([5]))):
        with pytest.raises(UserError, match=r"train-00001.arrow of \w+ holds . records, its manifest says 7 - see"):
            read()
    (images / "train-00001.arrow").write_bytes(b"no Arrow")
    train, _ = open_data(str(images), tmp_path, 10**9)
    with pytest.raises(UserError, match="cannot be read"):
        train.column(np.array([0]), "label")
