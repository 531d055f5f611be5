"""COCO: splits from folder names, the first caption of each image."""

import json

import pytest

from transvae_platform.data.listing import list_source
from transvae_platform.errors import SpecError


def captions(*, images, annotations):
    return json.dumps(
        {
            "info": {"year": 2017},
            "licenses": [{"id": 1, "name": "CC"}],
            "images": [{"id": key, "file_name": name, "height": 4, "width": 5} for key, name in images],
            "annotations": [{"image_id": image, "id": key, "caption": text} for key, image, text in annotations],
        }
    ).encode()


@pytest.fixture
def coco(put):
    train = captions(
        images=[(9, "a.jpg"), (8, "b.jpg"), (7, "gone.jpg")],
        annotations=[(31, 9, "late"), (5, 9, "first ä"), (30, 8, "only"), (1, 7, "of a missing file"), (2, 66, "lost")],
    )
    valid = captions(images=[(1, "v.jpg")], annotations=[])
    return put(
        {
            "annotations/captions_train2017.json": train,
            "annotations/captions_val2017.json": valid,
            "annotations/instances_train2017.json": b"not read",
            **{name: name.encode() for name in ("train2017/a.jpg", "train2017/b.jpg", "train2017/extra.jpg")},
            **{name: name.encode() for name in ("val2017/v.jpg", "test2017/t.jpg", "unlabeled2017/u.jpg")},
        }
    )


@pytest.mark.parametrize("store", [False, True])
def test_coco(coco, check, rows, memory, store):
    listing = list_source(memory(coco) if store else str(coco))
    assert (listing.layout, listing.classes) == ("coco", ())
    assert rows(listing, "name", "split", "caption") == [
        ("train2017/a.jpg", "train", "first ä"),
        ("train2017/b.jpg", "train", "only"),
        ("train2017/extra.jpg", "train", None),
        ("val2017/v.jpg", "validation", None),
    ]
    check(listing)


def test_sets_below_an_images_folder(put, rows):
    root = put({"images/val2014/v.jpg": b"", "annotations/instances_val2014.json": b"{}"})
    assert rows(list_source(str(root)), "name", "split") == [("images/val2014/v.jpg", "validation")]


def test_coco_that_cannot_serve(coco):
    broken = coco / "annotations" / "captions_val2017.json"
    broken.write_bytes(captions(images=[(1, "v.jpg"), (2, "v.jpg")], annotations=[]))
    with pytest.raises(SpecError, match=r"captions_val2017.json names an image twice - download it again"):
        list_source(str(coco))
    for content in (b"{", b"[]", b"{}", b'{"images": [], "annotations": [3]}'):
        broken.write_bytes(content)
        with pytest.raises(
            SpecError, match=r"captions_val2017.json is no COCO captions file \(.*\) - download it again"
        ):
            list_source(str(coco))
    (coco / "val2014").mkdir()
    (coco / "val2014" / "v.jpg").write_bytes(b"")
    with pytest.raises(SpecError, match=r"holds sets of several years \(2014, 2017\), which share images - give"):
        list_source(str(coco))


def test_deep_captions_file_is_named(coco):
    (coco / "annotations" / "captions_val2017.json").write_bytes(b'{"images": ' + b"[" * 100_000)
    with pytest.raises(SpecError, match=r"captions_val2017.json is no COCO captions file"):
        list_source(str(coco))


@pytest.mark.parametrize(
    "content",
    [
        captions(images=[(1, "v.jpg")], annotations=[(1, 1, 5)]),
        captions(images=[(1, "v.jpg")], annotations=[(1, 1, "\ud800")]),
        captions(images=[([], "v.jpg")], annotations=[]),
        captions(images=[(1, 7)], annotations=[(1, 1, "a")]),
        captions(images=[(1, "v.jpg")], annotations=[("x", 1, "a"), (2, 1, "b")]),
        b'{"images": [], "annotations": [{"id": ' + b"9" * 5000 + b"}]}",
    ],
    ids=["number as caption", "surrogate", "list as id", "number as name", "mixed ids", "endless number"],
)
def test_captions_that_are_none_are_told_with_the_other_broken_files(coco, content):
    (coco / "annotations" / "captions_val2017.json").write_bytes(content)
    with pytest.raises(SpecError, match=r"captions_val2017.json is no COCO captions file \(.*\) - download it again"):
        list_source(str(coco))
    listing = list_source(str(coco), skip_broken=True)
    assert len(listing.broken) == 1
    assert listing.table["caption"].null_count == 2  # those of the other file are there
