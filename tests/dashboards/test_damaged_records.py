"""Records of evaluations that were damaged: valid JSON, and not what a page expects."""

import json
from pathlib import Path

import pytest

from transvae_dashboards.live.pages import Pages
from transvae_dashboards.page import render
from transvae_platform.data.sets.notes import write_note
from transvae_platform.evaluation.latent_space.records import all_latent_records
from transvae_platform.evaluation.protocols import PRESETS
from transvae_platform.evaluation.records import Record, all_records, write_record

MODEL = {"name": "models:/demo-vit-T@best", "title": "vit-T/f8d8", "weights_sha256": "a" * 64, "parameters": 9,
         "compression": 8, "channels": 8}  # fmt: skip
DATA = {"name": "kept", "fingerprint": "f", "source": "/photos", "layout": "folder", "split": "validation",
        "resolution": 32}  # fmt: skip
VALUES = dict.fromkeys(("density_cv", "normalised_entropy", "gini"), 0.2)
DENSITY = {"n": 10, "runs": 2, "mean": VALUES, "spread": VALUES, "settings": {}, "floors": {"disc": VALUES}}


@pytest.fixture
def home(write_study, tmp_path) -> Path:
    """One study whose tables hold an evaluation and a density."""
    study = write_study({"vit": "T"})
    study.submit()
    for key, what in (("one", "reconstruction"), ("two", "density")):
        study.journal.append("measured", trial=next(iter(study.trials)), what=what, key=key)
    protocol = {**vars(PRESETS["vavae"]), "identity": PRESETS["vavae"].identity}
    (tmp_path / "evaluations" / "one").mkdir(parents=True)
    networks = {"lpips": {"sha256": "b" * 64}, "inception": {"sha256": None}}
    record = Record("one", MODEL, DATA, protocol, networks, 7, {"psnr": 30.0}, 0, (), 0, 1, {})
    write_record(tmp_path / "evaluations" / "one", record)
    (tmp_path / "evaluations" / "latents").mkdir()
    latents = {"name": "means", "model": {"name": "m"}, "content": "mean", "images": "f"}
    write_note(tmp_path / "evaluations" / "latents" / "two.json", {
        "version": 1, "key": "two", "kind": "density", "latents": latents, "result": DENSITY, "lineage": {},
    })  # fmt: skip
    return tmp_path


def test_whole_records_are_read(home):
    assert len(all_records(home)) == len(all_latent_records(home)) == 1


@pytest.mark.parametrize(
    ("file", "path", "value"),
    [
        ("one/record.json", ("data",), 3), ("one/record.json", ("data", "resolution"), None),
        ("one/record.json", ("model", "title"), None), ("one/record.json", ("networks", "lpips"), None),
        ("one/record.json", ("metrics", "psnr"), []), ("one/record.json", ("model", "channels"), "x"),
        ("one/record.json", ("n",), "many"), ("latents/two.json", ("latents", "model"), []),
        ("latents/two.json", ("latents", "name"), None), ("latents/two.json", ("result", "mean"), {}),
        ("latents/two.json", ("result", "runs"), None), ("latents/two.json", ("kind",), "densitx"),
    ],
)  # fmt: skip
def test_damaged_record_is_left_out_and_every_page_stands(home, file, path, value):
    target = home / "evaluations" / file
    values = at = json.loads(target.read_text())
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    target.write_text(json.dumps(values))
    assert len(all_records(home)) + len(all_latent_records(home)) == 1
    pages = Pages(home)
    for view in ("tables", "latents", "reconstructions"):
        assert pages.answer(f"/study/demo/{view}?of=home").status == 200
    assert "demo" in render(pages.studies.open("demo").state)
