"""Data sets of one image, and others without a hold-out: everything works but what needs a validation split."""

import numpy as np
import pytest

from transvae import create_model
from transvae_platform.data.exchange.sheet import contact_sheet
from transvae_platform.data.exchange.webdataset import export_webdataset
from transvae_platform.data.latents.extract import extract_latents, plan_extraction
from transvae_platform.data.making.verify import find_damage
from transvae_platform.data.making.work import run_locally
from transvae_platform.data.pixels.decode import decode
from transvae_platform.data.sets.samples import open_data
from transvae_platform.data.sets.shards import ShardFile
from transvae_platform.errors import UserError


@pytest.fixture
def one(photos, section, make_set):
    source = photos(1)
    return source, *make_set(section(source))


def test_one_image_is_a_data_set_to_read_show_and_verify(one, tmp_path):
    source, folder, manifest = one
    assert (manifest.items, manifest.samples("train"), manifest.samples("validation")) == (1, 1, 0)
    assert find_damage(str(folder), manifest) == []
    train, validation = open_data(str(folder), tmp_path / "cache", 10**6)
    assert (len(train), len(validation)) == (1, 0)
    image = train.read(np.array([0]))[0]
    photograph = decode((source / "p0.png").read_bytes())
    assert abs(image.mean() - photograph.mean()) < 5
    assert contact_sheet(train).size[0] > 16
    with pytest.raises(UserError, match="holds no images in this split"):
        contact_sheet(validation)


def test_one_image_becomes_latents_and_tars(one, tmp_path):
    _, folder, manifest = one
    create_model("vit-micro-T/f8d8").save_pretrained(tmp_path / "model")
    plan = plan_extraction(manifest, folder, tmp_path / "model", model_name="tiny", dtype="float32")
    latents = extract_latents(plan, tmp_path / "home", run_locally)
    (shard,) = latents.shards
    values = ShardFile(tmp_path / "home" / "data" / latents.fingerprint / shard.file).array("latent")
    assert values.shape == (1, 8, 2, 2)
    assert len(export_webdataset(folder, tmp_path / "tars", run_locally)) == 1


def test_a_share_of_0_holds_nothing_out(photos, section, make_set):
    _, manifest = make_set(section(photos(4), holdout=0))
    assert (manifest.samples("train"), manifest.samples("validation")) == (4, 0)


def test_one_image_that_cannot_be_read_is_refused_with_the_reason(photos, section, make_set):
    source = photos(1)
    (source / "p0.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"no train image could be used.*:\n  p0.png: the file is empty"):
        make_set(section(source))


def test_a_share_of_one_image_is_refused_with_the_way_out(photos, section, make_set):
    with pytest.raises(UserError, match=r"all 1 images .* would be held out.*lower it \(0 holds none out, 1 all"):
        make_set(section(photos(1), holdout=0.1))
