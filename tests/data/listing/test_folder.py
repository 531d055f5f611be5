"""Images in folders: found once, named in UTF-8, with the labels and splits that their folders tell."""

import os
import time

import pytest
from PIL import Image

from transvae_platform.data.listing import list_source
from transvae_platform.data.listing.reading import read_items
from transvae_platform.data.pixels.decode import decode
from transvae_platform.errors import SpecError


def test_images_at_any_depth_are_found_and_nothing_else(put, check, rows):
    root = put(
        ["b.PNG", "a.jpg", "deep/er/c.webp", "notes.txt", ".hidden.jpg", ".thumbnails/d.jpg", "e.jpg.txt", "jpg"]
    )
    (root / "folder.jpg").mkdir()
    listing = list_source(str(root))
    assert check(listing) == {"a.jpg": b"a.jpg", "b.PNG": b"b.PNG", "deep/er/c.webp": b"deep/er/c.webp"}
    assert listing.layout == "folder"
    assert listing.classes == ()
    status = (root / "a.jpg").stat()
    assert rows(listing, "path", "size", "stamp")[0] == (str(root / "a.jpg"), 5, f"5:{status.st_mtime_ns}")
    for column in ("offset", "row", "column", "split", "label", "caption"):
        assert listing.table[column].null_count == 3


def test_every_suffix_that_can_be_decoded_is_read_and_the_rest_counted(put):
    known = ["a.jfif", "b.JPE", "c.jp2", "d.j2k", "e.avif", "f.pgm", "g.jpg"]
    root = put([*known, "h.heic", "deep/i.HEIC", "j.txt", "README", ".hidden"])
    (root / "k.jpg").symlink_to(root / "README")
    (root / "l.heic").symlink_to(root / "h.heic")
    listing = list_source(str(root))
    assert set(listing.table["name"].to_pylist()) == {*known, "k.jpg"}
    assert next(iter(listing.passed_over.items())) == (".heic", 3)
    assert listing.passed_over == {".heic": 3, ".txt": 1, "": 1}


def test_new_formats_are_decoded(noise, encode):
    for kind, options in (("AVIF", {}), ("JPEG2000", {}), ("PPM", {})):
        assert decode(encode(noise(), kind, **options)).shape == (30, 40, 3)


def test_relative_paths_become_absolute(put, check, rows, monkeypatch):
    root = put(["a.jpg"])
    monkeypatch.chdir(root.parent)
    assert rows(list_source("source/../source/"), "path") == [(str(root / "a.jpg"),)]


def test_real_pictures_can_be_read(put, check):
    root = put([])
    root.mkdir()
    Image.new("RGB", (9, 7), "red").save(root / "red.png")
    assert check(list_source(str(root))) == {"red.png": (root / "red.png").read_bytes()}


@pytest.mark.parametrize("name", ["zażółć gęślą.jpg", "two\nlines.jpg", "quote'\"\\.jpg", "100%20.jpg", "a#b?c.jpg"])
def test_awkward_names(put, check, memory, name):
    root = put([name, f"in {name}/{name}"])
    assert check(list_source(str(root))).keys() == {name, f"in {name}/{name}"}
    assert check(list_source(memory(root))).keys() == {name, f"in {name}/{name}"}
    with_label = put([f"{name}/1.jpg", "b/1.jpg"], "classes")
    assert list_source(str(with_label)).classes == tuple(sorted([name, "b"]))


def test_names_that_are_no_utf8(put, check):
    root = put(["ok/a.jpg", "b/a.jpg"])
    raw = os.fsencode(root)
    try:
        os.mkdir(raw + b"/caf\xe9")  # noqa: PTH102
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with open(raw + b"/caf\xe9/\xff.jpg", "wb") as file:  # noqa: PTH123
        file.write(b"content")
    listing = list_source(str(root))
    assert check(listing)["caf\\udce9/\\udcff.jpg"] == b"content"
    assert listing.table["path"].to_pylist()[1].startswith("file:///")
    assert listing.classes == ("b", "caf\\udce9", "ok")
    inner = list_source(os.fsdecode(raw + b"/caf\xe9"))
    assert check(inner) == {"\\udcff.jpg": b"content"}
    (root / "caf\\udce9").mkdir()
    (root / "caf\\udce9" / "\\udcff.jpg").write_bytes(b"other")
    with pytest.raises(SpecError, match=r"holds two images named .* - rename or remove one"):
        list_source(str(root))


def test_what_links_lead_to_is_found_once(put, check, tmp_path):
    shelf = put(["s.jpg"], "shelf")
    root = put(["real/a.jpg", "real/blob"])
    (root / "AA").symlink_to(root / "real")  # sorts before the real folder
    (root / "shelf").symlink_to(shelf)
    (root / "again").symlink_to(shelf)
    (shelf / "up").symlink_to(root)
    (root / "0.jpg").symlink_to(root / "real" / "a.jpg")
    (root / "1.jpg").symlink_to(shelf / "s.jpg")
    (root / "3.jpg").symlink_to(root / "real" / "blob")  # as in a cache whose files have no suffix
    (root / "2.jpg").symlink_to(root / "3.jpg")
    assert check(list_source(str(root), "folder")).keys() == {"real/a.jpg", "again/s.jpg", "2.jpg"}


def test_links_that_lead_nowhere_cost_only_themselves(put):
    root = put(["a/b.jpg"])
    (root / "gone.jpg").symlink_to(root / "nowhere.jpg")
    for name in ("loop", "loop.jpg"):
        (root / name).symlink_to(name)
    listing = list_source(str(root))
    names = listing.table["name"].to_pylist()
    items = list(read_items(listing.table))
    assert [(names[position], content) for position, content, _ in items] == [
        ("a/b.jpg", b"a/b.jpg"), ("gone.jpg", None), ("loop.jpg", None),
    ]  # fmt: skip
    assert items[1][2] == "its file is missing"
    assert "Too many levels of symbolic links" in items[2][2]


def test_link_to_a_missing_tar_is_named(put):
    root = put([])
    root.mkdir()
    (root / "a.tar").symlink_to(root / "nowhere.tar")
    with pytest.raises(SpecError, match=r"a\.tar does not exist"):
        list_source(str(root))


def test_unreadable_folders_are_named(put, monkeypatch):
    root = put(["a/b.jpg"])
    scan = os.scandir

    def refuse(folder):
        if str(folder).rstrip("/").endswith("/a"):
            raise PermissionError(13, "Permission denied", folder)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SpecError, match=r"source/a cannot be read \(Permission denied\) - mend or remove it"):
        list_source(str(root))


@pytest.mark.parametrize("store", [False, True])
def test_locations_that_cannot_serve(put, memory, store):
    root = put(["empty/notes.txt", "file.txt", "a.jpg"])
    base = memory(root) if store else str(root)
    for inside, message in {
        "missing": r"data.path: .*/missing does not exist - give the folder that holds your images",
        "empty": r"data.path: .*/empty holds no images \(.jpg, .*\) - is it the right folder\?",
        "file.txt": r"data.path: .*/file.txt is a file - give the folder that holds your images",
    }.items():
        with pytest.raises(SpecError, match=message):
            list_source(f"{base}/{inside}")


def test_class_folders(put, check, rows):
    listing = list_source(str(put(["dog/1.jpg", "Cat/1.jpg", "dog/0.jpg", "ant eater/x.png"])))
    assert (listing.layout, listing.classes) == ("classes", ("Cat", "ant eater", "dog"))
    assert rows(listing, "name", "label") == [
        ("Cat/1.jpg", 0),
        ("ant eater/x.png", 1),
        ("dog/0.jpg", 2),
        ("dog/1.jpg", 2),
    ]
    check(listing)


def test_class_folders_below_splits(put, check, rows):
    listing = list_source(str(put(["train/a/1.jpg", "train/b/1.jpg", "valid/b/2.jpg", "test/c/3.jpg"])))
    assert (listing.layout, listing.classes) == ("classes", ("a", "b", "c"))
    assert rows(listing, "name", "split", "label") == [
        ("train/a/1.jpg", "train", 0),
        ("train/b/1.jpg", "train", 1),
        ("valid/b/2.jpg", "validation", 1),
    ]


def test_test_split_stands_in_for_a_missing_validation_split(put, rows):
    listing = list_source(str(put(["train/1.jpg", "test/2.jpg"])))
    assert listing.layout == "folder"
    assert rows(listing, "name", "split") == [("test/2.jpg", "validation"), ("train/1.jpg", "train")]


def test_deeper_or_mixed_folders_are_no_classes_unless_named_so(put, rows):
    root = put(["a/x/1.jpg", "b/2.jpg"])
    assert list_source(str(root)).layout == "folder"
    assert rows(list_source(str(root), "classes"), "label") == [(0,), (1,)]
    (root / "3.jpg").write_bytes(b"")
    with pytest.raises(SpecError, match=r"3.jpg lies in no class folder - move it, or set data.layout: folder"):
        list_source(str(root), "classes")


@pytest.mark.parametrize("prefix", ["", "ILSVRC/Data/CLS-LOC/"])
def test_imagenet(put, check, rows, prefix):
    names = ["train/n02/a.JPEG", "train/n01/b.JPEG", "val/n02/v.JPEG"]
    files = [prefix + name.replace("n0", "n0000000") for name in names]
    listing = list_source(str(put(files)))
    assert (listing.layout, listing.classes) == ("imagenet", ("n00000001", "n00000002"))
    assert rows(listing, "split", "label") == [("train", 0), ("train", 1), ("validation", 1)]
    check(listing)


@pytest.mark.parametrize(
    ("labels", "content"),
    [
        (
            "LOC_val_solution.csv",
            b"ImageId,PredictionString\nv2,n00000001 1 2 3 4 \nv1,n00000002 1 1 2 2 n00000002 5 5\n",
        ),
        ("imagenet_2012_validation_synset_labels.txt", b"n00000002\r\nn00000001\n"),
        ("ILSVRC2012_validation_ground_truth.txt", b"490\n361\n"),
    ],
)
def test_flat_validation_folder_of_imagenet(put, rows, labels, content):
    trained = {"train/n00000001/a.JPEG": b"", "train/n00000002/b.JPEG": b""}
    root = put({**trained, "val/v1.JPEG": b"", "val/v2.JPEG": b"", "test/t.JPEG": b"", labels: content})
    listing = list_source(str(root))
    known = labels != "ILSVRC2012_validation_ground_truth.txt"
    assert listing.layout == "imagenet"
    assert rows(listing, "name", "split", "label")[2:] == [
        ("val/v1.JPEG", "validation", 1 if known else None),
        ("val/v2.JPEG", "validation", 0 if known else None),
    ]
    if known:
        (root / "val" / "v3.JPEG").write_bytes(b"")
        with pytest.raises(SpecError, match=rf"{labels} has 2 labels that do not fit the 3 images of val/"):
            list_source(str(root))


def test_layout_names_are_checked_and_mixtures_refused(put):
    root = put(["a.jpg", "b.tar", "c.parquet"])
    with pytest.raises(SpecError, match=r"holds files of several kinds \(b.tar, c.parquet, a.jpg\) - set data.layout"):
        list_source(str(root))
    assert list_source(str(root), "folder").table.num_rows == 1
    with pytest.raises(SpecError, match=r"no layout is named 'webdatasets' - did you mean 'webdataset'\?"):
        list_source(str(root), "webdatasets")
    with pytest.raises(SpecError, match=r"has images outside of train/ and val/ - it is no ImageNet"):
        list_source(str(root), "imagenet")


def test_twenty_thousand_files_are_listed_in_a_moment(put):
    root = put([f"{folder}/x.txt" for folder in range(100)])
    for number in range(20_000):
        os.close(os.open(f"{root}/{number % 100}/{number}.jpg", os.O_CREAT))
    start = time.process_time()
    assert list_source(str(root)).table.num_rows == 20_000
    assert time.process_time() - start < 5


@pytest.mark.parametrize("linked", [False, True])
def test_home_inside_the_source_is_no_part_of_it(put, rows, tmp_path, linked):
    root = put(["a.jpg", "runs/data/sheet.png", "runs/studies/x/page.jpg", "runs2/b.jpg"])
    home = root / "runs"
    if linked:
        home = tmp_path / "elsewhere"
        (root / "runs").rename(home)
        (root / "runs").symlink_to(home)
        (root / "one.png").symlink_to(home / "data" / "sheet.png")
    names = [name for (name,) in rows(list_source(str(root), home=root / "runs"), "name")]
    assert names == (["a.jpg", "one.png", "runs2/b.jpg"] if linked else ["a.jpg", "runs2/b.jpg"])
    everything = [name for (name,) in rows(list_source(str(root)), "name")]
    assert len(everything) == 4
    for inside in (root / "runs", root / "runs" / "studies"):  # who names it means it
        assert rows(list_source(str(inside), home=root / "runs"), "name")


@pytest.mark.parametrize("linked", [False, True])
def test_pipes_are_named_and_never_opened(put, tmp_path, linked):
    root = put(["a.jpg"])
    os.mkfifo(tmp_path / "pipe.jpg" if linked else root / "pipe.jpg")
    if linked:
        (root / "pipe.jpg").symlink_to(tmp_path / "pipe.jpg")
        (root / "zero.png").symlink_to("/dev/zero")
    items = list(read_items(list_source(str(root)).table))
    assert [content for _, content, _ in items] == [b"a.jpg", None, None][: len(items)]
    assert len(items) == (3 if linked else 2)
    for _, _, reason in items[1:]:
        assert reason == "it cannot be read (it is a pipe, a socket or a device)"


def test_split_folders_are_told_in_any_case(put, rows):
    listing = list_source(str(put(["Train/cat/1.jpg", "Train/dog/2.jpg", "VAL/cat/3.jpg", "VAL/dog/4.jpg"])))
    assert (listing.layout, listing.classes) == ("classes", ("cat", "dog"))
    assert [split for (split,) in rows(listing, "split")] == ["train", "train", "validation", "validation"]


@pytest.mark.parametrize("stray", ["preview.jpg", "more/cat/5.jpg", "train/5.jpg"])
def test_a_stray_image_beside_classes_below_splits_is_named(put, stray):
    files = ["train/cat/1.jpg", "train/dog/2.jpg", "val/cat/3.jpg", "val/dog/4.jpg", stray]
    with pytest.raises(SpecError, match=f"{stray} lies in no class folder - move it"):
        list_source(str(put(files)))


def test_a_stray_image_beside_class_folders_is_named(put):
    root = put(["cat/1.jpg", "dog/2.jpg", "cover.jpg"])
    with pytest.raises(SpecError, match=r"cover.jpg lies in no class folder - move it, or set data.layout: folder"):
        list_source(str(root))
    assert list_source(str(root), "folder").table.num_rows == 3
    for name in ("0.jpg", "1.jpg"):  # more images on top than folders: a folder of pictures
        (root / name).touch()
    assert list_source(str(root)).layout == "folder"


def test_images_of_a_test_split_beside_validation_are_counted(put):
    listing = list_source(str(put(["train/1.jpg", "val/2.jpg", "test/3.jpg", "test/4.jpg", "x.txt"])))
    assert listing.table.num_rows == 2
    assert listing.passed_over == {"of the test split": 2, ".txt": 1}
