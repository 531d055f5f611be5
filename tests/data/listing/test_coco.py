"""COCO: splits from folder names, of each image the first caption and the class of its largest object."""

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


def instances(*, images=((1, "v.jpg"),), annotations=(), categories=((18, "dog"), (1, "person"))):
    keys = ("id", "image_id", "category_id", "area", "iscrowd")
    polygon = {"segmentation": [[0.0, 1.5, 2.0, 3.0]], "bbox": [0, 0, 2, 3]}
    crowd = {"segmentation": {"counts": [3, 4], "size": [4, 5]}}
    objects = [dict(zip(keys, values, strict=False)) for values in annotations]
    return json.dumps(
        {
            "images": [{"id": key, "file_name": name} for key, name in images],
            "annotations": [{**(crowd if value.get("iscrowd") == 1 else polygon), **value} for value in objects],
            "categories": [{"supercategory": "any", "id": key, "name": name} for key, name in categories],
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
            "annotations/person_keypoints_train2017.json": b"not read",
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
    root = put({"images/val2014/v.jpg": b"", "annotations/instances_val2014.json": instances()})
    assert rows(list_source(str(root)), "name", "split") == [("images/val2014/v.jpg", "validation")]


def test_coco_that_cannot_serve(coco):
    broken = coco / "annotations" / "captions_val2017.json"
    broken.write_bytes(captions(images=[(1, "v.jpg"), (2, "v.jpg")], annotations=[]))
    with pytest.raises(SpecError, match=r"captions_val2017.json names an image twice - mend it or download it again"):
        list_source(str(coco))
    for content in (b"{", b"[]", b"{}", b'{"images": [], "annotations": [3]}'):
        broken.write_bytes(content)
        with pytest.raises(
            SpecError, match=r"captions_val2017.json is no COCO captions file \(.*\) - mend it or download it again"
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
    with pytest.raises(
        SpecError, match=r"captions_val2017.json is no COCO captions file \(.*\) - mend it or download it again"
    ):
        list_source(str(coco))
    listing = list_source(str(coco), skip_broken=True)
    assert len(listing.broken) == 1
    assert listing.table["caption"].null_count == 2  # those of the other file are there


OBJECTS = [
    (5, 9, 18, 20.5, 0),
    (4, 9, 1, 30, 0),  # larger
    (3, 9, 18, 900, 1),  # a crowd
    (7, 8, 1, 10, 0),
    (6, 8, 18, 10.0, 0),  # as large, of a lower id
    (1, 66, 1, 5, 0),  # of an image that is not named
    (2, 7, 1, 5),  # of a missing file; other tools leave iscrowd out
]


@pytest.mark.parametrize("store", [False, True])
def test_label_is_the_category_of_the_largest_object(coco, check, rows, memory, store):
    images = [(9, "a.jpg"), (8, "b.jpg"), (7, "gone.jpg"), (5, "extra.jpg")]
    crowd = [*OBJECTS, (9, 5, 1, 70, 1)]
    (coco / "annotations" / "instances_train2017.json").write_bytes(instances(images=images, annotations=crowd))
    (coco / "annotations" / "instances_val2017.json").write_bytes(instances(annotations=[(1, 1, 18, 0, 0)]))
    listing = list_source(memory(coco) if store else str(coco))
    assert listing.classes == ("person", "dog")  # by id
    assert rows(listing, "name", "label", "caption") == [
        ("train2017/a.jpg", 0, "first ä"),
        ("train2017/b.jpg", 1, "only"),
        ("train2017/extra.jpg", None, None),
        ("val2017/v.jpg", 1, None),
    ]
    check(listing)


def test_labels_of_one_set_only(coco, rows):
    (coco / "annotations" / "instances_val2017.json").write_bytes(instances(annotations=[(1, 1, 18, 0, 0)]))
    listing = list_source(str(coco))
    assert listing.classes == ("person", "dog")
    assert [label for (label,) in rows(listing, "label")] == [None, None, None, 1]


def test_sets_with_different_categories_are_refused(coco):
    (coco / "annotations" / "instances_val2017.json").write_bytes(instances())
    (coco / "annotations" / "instances_train2017.json").write_bytes(instances(categories=[(1, "person"), (18, "cat")]))
    with pytest.raises(SpecError, match=r"the instances files of .* have different categories - give those of one"):
        list_source(str(coco))


GOOD = (1, 1, 18, 4.5, 0)


@pytest.mark.parametrize(
    ("content", "entry"),
    [
        (instances(annotations=[GOOD, (2, 1, 99, 4, 0)]), r"annotations\[1\] is \(2, 1, 99, 4, 0\), not id, image_id"),
        (instances(annotations=[(1, 1, 18, None, 0)]), r"annotations\[0\] is \(1, 1, 18, None, 0\)"),
        (instances(annotations=[(1, 1, 18, -1, 0)]), r"annotations\[0\]"),
        (instances(annotations=[(1, 1, 18, float("nan"), 0)]), r"annotations\[0\]"),
        (instances(annotations=[(1, 1, "dog", 4, 0)]), r"annotations\[0\]"),
        (instances(annotations=[(1, None, 18, 4, 0)]), r"annotations\[0\]"),
        (instances(annotations=[(1, 1, 18, 4, 2)]), r"annotations\[0\]"),
        (instances(categories=[(1, "a"), (1, "b")]), r"categories\[1\] is \{.*\}, not an id and a name of its own"),
        (instances(categories=[(1, "a"), (2, "a")]), r"categories\[1\]"),
        (instances(categories=[(1, 5)]), r"categories\[0\]"),
        (b'{"images": [], "annotations": [3], "categories": []}', r"annotations\[0\] is 3"),
        (b'{"images": [], "annotations": [], "categories": 3}', "TypeError"),
        (b'{"images": [], "annotations": []}', "'categories'"),
        (instances(annotations=[GOOD])[:-20], "JSONDecodeError"),
        (b"\xff\xfe{}", "UnicodeDecodeError"),
    ],
)  # fmt: skip
def test_wrong_entry_of_an_instances_file_is_named(coco, content, entry):
    (coco / "annotations" / "instances_val2017.json").write_bytes(content)
    with pytest.raises(
        SpecError, match=rf"instances_val2017.json is no COCO instances file \(.*{entry}.*\) - mend it or download"
    ):
        list_source(str(coco))


def test_instances_file_that_names_an_image_twice(coco):
    (coco / "annotations" / "instances_val2017.json").write_bytes(instances(images=[(1, "v.jpg"), (2, "v.jpg")]))
    with pytest.raises(SpecError, match=r"instances_val2017.json names an image twice"):
        list_source(str(coco))
