"""What an ingest makes of its items: which are refused, enlarged, numbered, and what is there already."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from transvae_platform.data.listing import list_source
from transvae_platform.data.making import images as making
from transvae_platform.data.making.ingest import ingest
from transvae_platform.data.making.split import split_listing
from transvae_platform.data.making.work import run_locally
from transvae_platform.data.sets.shards import ShardFile
from transvae_platform.errors import UnreachableError, UserError

CROPS = {"kind": "crops", "per_photograph": 4}


def files(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def backwards(function, work):
    return list(run_locally(function, work[::-1]))


def test_side_without_a_readable_image_is_refused_with_reasons(photos, section, make_set):
    folder = photos(3)
    (folder / "p1.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"data: no validation image could be used.*:\n  p1.png: the file is empty"):
        make_set(section(folder, holdout=["p1"]))


def test_copies_of_one_image_are_named_where_nothing_is_left(photos, section, make_set):
    folder = photos(1)
    for number in range(1, 10):
        shutil.copy(folder / "p0.png", folder / f"p{number}.png")
    with pytest.raises(
        UserError, match=r"no train image could be used.*:\n  p\d.png: identical to the held-out p\d.png"
    ):
        make_set(section(folder))


def test_folder_of_small_pictures_is_refused(photos, section, make_set):
    with pytest.raises(UserError, match=r"(?s)could be used.* is smaller than the sample size 64 x 64"):
        make_set(section(photos(3), resolution=64))


def small_and_damaged(photos, noise):
    """20 photographs, of which three have a side below 32 pixels and one cannot be read."""
    folder = photos(20)
    for number in range(20):
        noise(40 + number, 24 if number < 3 else 40, seed=number).save(folder / f"p{number}.png")
    (folder / "p9.png").write_bytes(b"")
    return folder


def test_small_images_have_a_count_of_their_own(photos, noise, section, make_set):
    folder = small_and_damaged(photos, noise)
    with pytest.raises(
        UserError, match=r"data.quarantine: 3 of 20 images are too small, .*data.view.enlarge"
    ) as caught:
        make_set(section(folder, resolution=32, holdout=0.1))
    assert "p9.png" not in str(caught.value)
    _, manifest = make_set(section(folder, resolution=32, holdout=0.1, quarantine=0.15))  # 4 of 20 would be more
    assert sum(item.is_too_small for item in manifest.quarantined) == 3
    assert len(manifest.quarantined) == 4


def test_small_images_are_enlarged_on_request_and_by_adm(photos, noise, section, make_set):
    folder = small_and_damaged(photos, noise)
    views = ({"geometry": "shorter_side", "enlarge": True}, {"geometry": "adm"}, {"geometry": "adm", "enlarge": False})
    sections = [
        section(folder, resolution=32, holdout=0.1, quarantine=0.2, view={"kind": "centre", **view}) for view in views
    ]
    made = [make_set(data)[1] for data in sections]
    assert [len(manifest.quarantined) for manifest in made] == [1, 1, 4]
    assert [manifest.settings["view"]["enlarge"] for manifest in made] == [True, True, False]
    assert len({manifest.fingerprint for manifest in made}) == 3


def test_work_travels_as_plain_values(photos, section, tmp_path):
    def through_text(function, work):
        for piece in work:
            function(json.loads(json.dumps(piece)))
            yield piece

    data = section(photos(4), holdout=["p1"], view=CROPS)
    listing = list_source(data.path)
    there = ingest(listing, data, tmp_path / "a", through_text)
    assert there == ingest(listing, data, tmp_path / "b", run_locally)


def test_items_keep_their_number_from_the_listing(photos, section, make_set, small_shards):
    data = section(photos(9), holdout=["p4"])
    made, manifest = make_set(data)
    table = split_listing(list_source(data.path), data)
    items = np.concatenate([ShardFile(made / s.file).column("item").to_numpy() for s in manifest.shards])
    assert items.tolist() == table.column("item").to_pylist() == [4, 0, 1, 2, 3, 5, 6, 7, 8]


def test_names_of_any_bytes_and_repeated_paths(photos, section, make_set, tmp_path):
    folder = photos(4)
    os.rename(folder / "p0.png", os.fsencode(folder) + b"/caf\xe9.png")  # no UTF-8  # noqa: PTH104
    (folder / "größer").mkdir()
    (folder / "p1.png").rename(folder / "größer" / "鹭 \n.png")
    (folder / "größer" / "kaputt 🐦.png").write_bytes(b"")
    (folder / "again").symlink_to(folder / "größer")  # a second way to the same files
    (folder / "loop").symlink_to(folder)
    made, manifest = make_set(section(folder, holdout=["p2"]))
    assert [(item.name, item.reason) for item in manifest.quarantined] == [
        ("größer/kaputt 🐦.png", "the file is empty")
    ]
    assert (manifest.items, manifest.samples("train")) == (5, 3)
    again, _ = make_set(section(folder, holdout=["p2"]), "again")
    assert files(again) == files(made)


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:100])])
def test_shard_that_is_harmed_before_the_making_continues_is_made_again(photos, section, tmp_path, small_shards, harm):
    data, home = section(photos(20), holdout=0.2), tmp_path / "home"

    def killed(function, work):
        for piece in work[:3]:
            function(piece)
        raise KeyboardInterrupt

    listing = list_source(data.path)
    with pytest.raises(KeyboardInterrupt):
        ingest(listing, data, home, killed)
    harm(sorted((home / "data").glob(".making-*/train-*.arrow"))[0])
    made = ingest(listing, data, home, run_locally)
    whole = ingest(listing, data, tmp_path / "other", run_locally)
    assert made == whole
    assert files(home / "data" / made.fingerprint)[made.shards[1].file] == made.shards[1].sha256


def test_data_set_that_is_there_already_stays_as_it_is(photos, section, make_set, tmp_path):
    folder, manifest = make_set(section(photos(4)))
    before = {path.name: path.stat().st_ino for path in folder.iterdir()}
    shutil.rmtree(tmp_path / "home" / "data" / "made")
    assert make_set(section(tmp_path / "photos"))[1].fingerprint == manifest.fingerprint
    assert {path.name: path.stat().st_ino for path in folder.iterdir()} == before


def test_home_that_cannot_be_made_is_not_called_full(photos, section, make_set, tmp_path):
    (tmp_path / "home").write_text("a file")
    with pytest.raises(UnreachableError, match=r"choose another --home$"):
        make_set(section(photos(2)))


def test_resize_without_memory_stops_the_ingest_and_costs_no_image(photos, section, make_set, monkeypatch):
    data = section(photos(12), holdout=["p0"])
    real, tensors = F.interpolate, iter(range(20))

    def starved(*given, **options):
        return torch.empty(2**60, dtype=torch.uint8) if next(tensors) == 5 else real(*given, **options)

    monkeypatch.setattr(F, "interpolate", starved)
    with pytest.raises(
        UnreachableError, match=r"data: there is no memory to resize an image of \d+ x 30 pixels - .* continues"
    ):
        make_set(data)
    assert len(make_set(data)[1].quarantined) == 0  # the same command continues


def test_shard_without_memory_stops_the_ingest_with_one_error(photos, section, make_set, monkeypatch):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr(making._memory, "empty", full)
    with pytest.raises(UnreachableError, match="data: there is no memory to make a shard - free some"):
        make_set(section(photos(3)))


def test_a_source_for_validation_alone_is_made_whole(photos, section, tmp_path):
    folder = tmp_path / "coco"
    folder.mkdir()
    photos(3).rename(folder / "val2017")
    made = ingest(list_source(str(folder), layout="coco"), section(), tmp_path / "home", run_locally)
    assert (made.samples("train"), made.samples("validation")) == (0, 3)
    assert {shard.split for shard in made.shards} == {"validation"}
