"""The page of table 1: what stands beside what, and what stays empty."""

import dataclasses
import math
import re

import pytest

from transvae_dashboards.table1 import render, write_table1
from transvae_platform.evaluation.paper import SETS, TABLE1, printed
from transvae_platform.evaluation.protocols import PRESETS
from transvae_platform.evaluation.records import Record, shown

OURS = "models:/paper-transvae-L@best"


def record(**changes):
    vavae = PRESETS["vavae"]
    made = Record(
        key="k",
        model={"name": OURS, "title": "transvae-L/f16d32", "compression": 16, "channels": 32,
               "parameters": 545e6, "trained_at": 256},
        data={"name": "imagenet-val", "fingerprint": "f", "split": "validation", "resolution": 256,
              "geometry": vavae.geometry, "layout": "imagenet", "left_out": 0},
        protocol={**vars(vavae), "identity": vavae.identity},
        networks={},
        n=50_000,
        metrics={"psnr": 29.02, "ssim": 0.83, "lpips": 0.08, "rfid": 0.7},
        identical=0, warnings=(), seed=0, batch_size=1, lineage={},
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def cells(text, name):
    row = next(row for row in re.findall(r"<tr>(.*?)</tr>", text) if name in row)
    return re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)


def test_ours_stands_beside_the_papers_with_the_difference():
    assert cells(render([record()]), OURS)[3:] == [
        "50,000", "0.70", "29.02", "0.080", "0.830", "0.66 (+0.04)", "28.92 (+0.10)", "0.086 (−0.006)", "0.82 (+0.010)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [{"n": 4_999}, {"data": {**record().data, "layout": "folder"}}, {"data": {**record().data, "resolution": 128}},
     {"protocol": {**record().protocol, "identity": PRESETS["rae"].identity}},
     *({"model": {**record().model, **other}} for other in (
         {"title": "vit-L/f16d32"}, {"title": "VA-VAE"}, {"trained_at": 32}, {"name": "weights/transvae-L"},
         {"name": "models:/paper-transvae-L-without-vf@best"},
     )),
     {"data": {**record().data, "split": "train"}}],
)  # fmt: skip
def test_what_is_not_the_papers_is_not_compared(changes):
    other = record(**changes)
    assert printed(other) is None
    assert "paper (difference)" not in render([other])


def test_published_weights_stand_beside_their_row():
    model = {**record().model, "name": "va-vae", "title": "VA-VAE", "published": "va-vae"}
    assert printed(record(model=model))[0].title == "VA-VAE"


@pytest.mark.parametrize(
    ("images", "said"), [(256_000, "256,000 images"), (None, "an unknown number of images")]
)  # fmt: skip
def test_a_model_beside_the_papers_says_how_long_it_was_trained(images, said):
    text = render([record(model={**record().model, "images": images})])
    assert f"{OURS} was trained on {said}, the paper&#x27;s TransVAE-L on 140,928,370." in text


def test_published_weights_say_nothing_of_their_training():
    model = {**record().model, "name": "va-vae", "title": "VA-VAE", "published": "va-vae"}
    assert "was trained on" not in render([record(model=model)])


def test_different_protocols_share_no_table():
    rae = PRESETS["rae"]
    other = record(
        key="l", protocol={**vars(rae), "identity": rae.identity}, model={**record().model, "name": "second"}
    )
    text = render([record(), other])
    assert text.count("Protocol vavae") == text.count("Protocol rae") == 1
    assert text.index(OURS) != text.index("second")
    same = render([record(), record(key="l", model={**record().model, "name": "second"})])
    assert same.count("Protocol vavae") == 1


def test_rows_that_would_read_alike_say_what_differs():
    def model(sha256):
        return {**record().model, "weights_sha256": sha256}

    two = render([record(model=model("1" * 64)), record(key="l", model=model("2" * 64))])
    assert f"{OURS} (weights 11111111)" in two
    assert f"{OURS} (weights 22222222)" in two
    seeds = render([record(), record(key="l", seed=7)])
    assert f"{OURS} (seed 0)" in seeds
    assert f"{OURS} (seed 7)" in seeds
    assert f"{OURS} (" not in render([record()])


def test_numbers_of_other_inception_weights_share_no_table():
    def by(sha256):
        return record(networks={"inception": {"file": "a.pth", "sha256": sha256}})

    text = render([by("1" * 64), by("2" * 64)])
    assert text.count("Protocol vavae") == 2
    assert "weights: inception 11111111" in text
    assert render([by("1" * 64), by("1" * 64)]).count("Protocol vavae") == 1


def test_cells_that_were_not_run_stay_empty_and_infinity_is_said():
    text = render([record(metrics={"psnr": math.inf, "rfid_random": 3.5}, warnings=("n = 10 is few",))])
    assert cells(text, OURS)[4:6] == ["3.50", "∞"]
    assert cells(text, OURS)[6] == "0.66"  # the paper's, without a difference
    assert "rFID (random network)" in text
    assert "n = 10 is few" in text


def test_a_distance_of_equal_images_has_no_minus():
    assert (shown(-1e-9, 2), shown(-0.26, 1), shown(0.0, 3)) == ("0.00", "-0.3", "0.000")


def test_the_papers_table_is_whole(tmp_path):
    text = write_table1([], tmp_path / "a" / "table1.html").read_text()
    assert "Nothing was evaluated yet" in text
    assert len(TABLE1) == 24
    assert all(len(row.values) == len(SETS) and all(len(values) == 4 for values in row.values) for row in TABLE1)
    assert "surely 0.030" in text


def test_columns_of_unverified_networks_are_shown_under_their_name():
    text = render([record(metrics={"psnr": 20.0, "rfid_unverified": 3.5, "lpips_unverified": 0.25})])
    assert cells(text, OURS)[4:7] == ["3.50", "20.00", "0.250"]
    assert "rFID (unverified network)" in text
    assert "mean nothing elsewhere" in text


def test_images_that_were_enlarged_are_said():
    assert "small ones enlarged" in render([record(data={**record().data, "enlarged": True})])
    assert "small ones enlarged" not in render([record()])
