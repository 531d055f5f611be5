"""The page of extrapolation: which evaluations make a line, and their pictures."""

import dataclasses

from PIL import Image

from transvae_dashboards.extrapolation import render
from transvae_dashboards.follow.study import FollowedStudy
from transvae_dashboards.scene import Scene
from transvae_dashboards.views.reconstructions import reconstructions
from transvae_platform.evaluation.protocols import PRESETS
from transvae_platform.evaluation.records import Record, write_record


def record(px, psnr, **data):
    model = {"name": "m", "title": "vit-T", "weights_sha256": "w" * 64, "trained_at": 256}
    known = {"name": f"d{px}", "source": "/photos", "split": "validation", "resolution": px, **data}
    return Record(
        f"k{px}", model, known, {"name": "vavae", "identity": "i"}, {}, 7, {"psnr": psnr, "lpips_random": 0.5}, 0, (),
        0, 1, {},
    )  # fmt: skip


def test_resolutions_stand_side_by_side_with_pictures(tmp_path):
    folder = tmp_path / "evaluations" / "k32"
    folder.mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(folder / "pictures.png")  # two originals of 32 pixels above their outputs
    text = render([record(64, 20.125), record(32, 30.0)], tmp_path)
    assert text.index("32 px, n = 7") < text.index("64 px, n = 7")
    assert "Trained at 256 px. Protocol vavae" in text
    assert text.index("30.00") < text.index("20.12")
    assert text.count('data-rows="2"') == 2  # a click enlarges them beside their difference
    assert "Reconstructions by m at 32 pixels" in text
    assert "64 px: the pictures of k64 are gone" in text


def test_other_draws_of_the_held_out_images_are_not_set_side_by_side(tmp_path):
    text = render([record(64, 20.0, drawn="a"), record(32, 30.0, drawn="b")], tmp_path)
    assert "No model was evaluated at two resolutions" in text


def test_images_that_are_left_out_at_one_resolution_are_said(tmp_path):
    def drawn(*names):
        pairs = zip((64, 32), names, strict=True)
        return render([record(px, 20.0, drawn="a", left_out_names=name) for px, name in pairs], tmp_path)

    assert "do not hold the same images" in drawn("a", "b")
    assert "do not hold the same images" not in drawn("a", "a")


def test_other_sources_are_not_set_side_by_side(tmp_path):
    text = render([record(64, 20.0), record(32, 30.0, source="/others")], tmp_path)
    assert "No model was evaluated at two resolutions" in text


def test_numbers_of_unverified_networks_and_enlarged_images_are_named(tmp_path):
    one, other = record(64, 20.0, enlarged=True), record(32, 30.0)
    other.metrics["rfid_unverified"] = 1.25
    text = render([one, other], tmp_path)
    assert "rfid_unverified" in text
    assert "1.25" in text
    assert "Images smaller than a test resolution were enlarged" in text


def test_a_studys_models_that_were_evaluated_by_hand_are_on_its_page(write_study, tmp_path):
    study = write_study({"vit": "T"})
    study.submit()
    vavae = {**vars(PRESETS["vavae"]), "identity": "i"}
    for px in (32, 64):
        known = record(px, 20.0, fingerprint=f"f{px}", layout="folder")
        model = {**known.model, "parameters": 9, "compression": 8, "channels": 8}
        (folder := tmp_path / "evaluations" / known.key).mkdir(parents=True)
        write_record(folder, dataclasses.replace(known, model=model, protocol=vavae))
    scene = Scene(FollowedStudy(study.folder), live=True)
    assert "No model of this study was evaluated at two resolutions" in "".join(reconstructions(scene))
    (trial,) = study.trials
    study.journal.append("registered", trial=trial, name="m", version=1, uri="models:/m/1", psnr=2.0, sha256="w" * 64)
    text = "".join(reconstructions(Scene(FollowedStudy(study.folder), live=True)))
    assert "64 px, n = 7" in text
