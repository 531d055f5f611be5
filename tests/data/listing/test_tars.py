"""Tars: samples grouped by key, found by offset, and refused where they are damaged."""

import json
import tarfile

import pytest

from transvae_platform.data.listing import list_source, webdataset
from transvae_platform.data.listing.reading import read_items
from transvae_platform.errors import SpecError


@pytest.fixture
def shards(put, pack):
    first = [
        ("./0001.jpg", b"one" * 700),
        ("./0001.cls", b"2\n"),
        ("./0001.txt", "eine Kuh\nłąka".encode()),
        ("deep/0001.json", json.dumps({"label": 0, "captions": ["first", "second"]}).encode()),
        ("deep/0001.png", b"two"),
        ("0002.txt", b"no image"),
        ("0003.seg.png", b"mask"),
        ("0003.webp", b"three"),
        ("._0003.webp", b"of a Mac"),
    ]
    second = [("long/" * 60 + "ä\n.img.jpeg", b"four"), ("b\udcff.JPG", b"five")]
    return put({"sub/x-train-0000.tar": pack(first), "x-val-0000.tar": pack(second)})


EXPECTED = [
    ("sub/x-train-0000.tar/0001.jpg", "train", 2, "eine Kuh\nłąka"),
    ("sub/x-train-0000.tar/0003.webp", "train", None, None),
    ("sub/x-train-0000.tar/deep/0001.png", "train", 0, "first"),
    ("x-val-0000.tar/b\\udcff.JPG", "validation", None, None),
    ("x-val-0000.tar/" + "long/" * 60 + "ä\n.img.jpeg", "validation", None, None),
]


@pytest.mark.parametrize("store", [False, True])
def test_samples_of_tars(shards, check, rows, memory, store):
    listing = list_source(memory(shards) if store else str(shards))
    assert listing.layout == "webdataset"
    assert listing.classes == ("0", "1", "2")
    assert rows(listing, "name", "split", "label", "caption") == EXPECTED
    assert list(check(listing).values()) == [b"one" * 700, b"three", b"two", b"five", b"four"]


def test_one_tar_is_a_source(shards, check, memory):
    assert len(check(list_source(str(shards / "x-val-0000.tar")))) == 2
    assert len(check(list_source(memory(shards) + "/x-val-0000.tar"))) == 2


def test_class_names_as_labels(put, pack, rows):
    tar = pack([("1.jpg", b""), ("1.cls", b"dog"), ("2.jpg", b""), ("2.cls", b"7"), ("3.jpg", b""), ("3.cls", b" ")])
    listing = list_source(str(put({"a.tar": tar})))
    assert listing.classes == ("7", "dog")
    assert rows(listing, "label") == [(1,), (0,), (None,)]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (["1.jpg", "2.jpg", "1.jpg"], r"holds the key '1' twice, or the files of that sample do not follow each other"),
        (["1.jpg", "2.jpg", "1.cls"], r"holds the key '1' twice, or the files of that sample do not follow each other"),
        (["1.jpg", "./1.JPG"], r"holds a file of '1' twice - remove one"),
        (["1.jpg", "1.png"], r"has several images in one sample \(1.jpg, 1.png\) - keep one of them"),
        (["1.a.jpg", "1.b.png"], r"has several images in one sample \(1.a.jpg, 1.b.png\) - keep one of them"),
        (["1.jpg", "1.json"], r"a.tar: 1.json is no JSON - mend or remove it"),
        (["1.txt"], r"source holds no images"),
    ],
)
def test_tars_that_break_the_convention(put, pack, members, message):
    root = put({"a.tar": pack([(name, b"?") for name in members])})
    with pytest.raises(SpecError, match=message):
        list_source(str(root))


def test_deep_json_is_named(put, pack):
    root = put({"a.tar": pack([("1.jpg", b"?"), ("1.json", b"[" * 100_000)])})
    with pytest.raises(SpecError, match=r"a.tar: 1.json is no JSON - mend or remove it"):
        list_source(str(root))


def test_huge_texts_are_named_instead_of_read(put, pack, monkeypatch):
    monkeypatch.setattr(webdataset, "MOST_TEXT", 4)
    root = put({"a.tar": pack([("1.jpg", b"?"), ("1.txt", b"four!")])})
    with pytest.raises(SpecError, match=r"a.tar: 1.txt has 5 bytes, above the limit of 4 for labels and captions"):
        list_source(str(root))


def test_damaged_tars_are_named(put, pack):
    whole = pack([(f"{number}.jpg", b"x" * 1000) for number in range(5)])
    root = put({"a.tar": whole})
    for content in (
        whole[:2000],
        whole[:1536],
        whole[: 1536 * 5],
        b"",
        b"?" * 4000,
        whole[:3072] + b"?" * 512 + whole[3584:],
    ):
        (root / "a.tar").write_bytes(content)
        with pytest.raises(
            SpecError, match=r"a.tar is (no whole tar \(.*\)|damaged or cut off at byte \d+) - download"
        ):
            list_source(str(root))
    with pytest.raises(SpecError, match=r"b.tar.gz is compressed, so nothing can be found in it - gunzip it"):
        list_source(str(put({"b.tar.gz": b""}, "compressed")))


def test_listing_reads_headers_and_reading_opens_a_tar_once(put, pack, monkeypatch, check):
    from transvae_platform.data.listing import reading

    root = put({"a.tar": pack([(f"{number}.jpg", bytes(200_000)) for number in range(20)])})
    opened, sizes = [], []

    class Counting:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def readinto(self, buffer):
            sizes.append(count := self.file.readinto(buffer))
            return count

    monkeypatch.setattr(webdataset, "open_file", lambda path, real=webdataset.open_file: Counting(real(path)))
    listing = list_source(str(root))
    assert sum(sizes) < 2_500_000  # of 4,010,240: a buffer per header, not the images
    monkeypatch.setattr(reading, "open_bytes", lambda path, real=reading.open_bytes: opened.append(path) or real(path))
    check(listing)
    assert opened == [str(root / "a.tar")]


def test_tar_that_leads_backwards_ends(put, pack):
    def block(name, size, kind):
        info = tarfile.TarInfo(name)
        info.size, info.type = size, kind
        return info.tobuf(tarfile.USTAR_FORMAT)

    first = pack([("1.jpg", b"x" * 100)])[:1024]
    record = b"14 size=-1536\n"
    backwards = block("p", len(record), tarfile.XHDTYPE) + record.ljust(512, b"\0") + block("2.jpg", 0, tarfile.REGTYPE)
    root = put({"a.tar": first + backwards + bytes(1024)})
    with pytest.raises(SpecError, match=r"a.tar is no whole tar \(a member at byte \d+ leads backwards\)"):
        list_source(str(root))


def test_what_a_parser_makes_of_a_tar_names_it(put, pack):
    caption = json.dumps({"caption": "\ud800"}).encode()  # half a character
    root = put({"a.tar": pack([("1.jpg", b"x"), ("1.json", caption)])})
    with pytest.raises(SpecError, match=r"cannot be listed \(Unicode\w+: .*\) - download or make it again"):
        list_source(str(root))


def test_tar_that_was_cut_after_listing_costs_its_tail_only(put, pack):
    root = put({"a.tar": pack([(f"{number}.jpg", b"x" * 1000) for number in range(3)])})
    table = list_source(str(root)).table
    with (root / "a.tar").open("r+b") as file:
        file.truncate(2400)
    assert [(content and len(content), reason) for _, content, reason in read_items(table)] == [
        (1000, ""),
        (None, "its tar ends after 352 of its 1000 bytes"),
        (None, "its tar ends after 0 of its 1000 bytes"),
    ]
    (root / "a.tar").unlink()
    assert list(read_items(table.slice(1))) == [(0, None, "its file is missing"), (1, None, "its file is missing")]


def test_names_of_integer_classes_lie_beside_the_tars(put, pack, rows):
    tar = pack([("1.jpg", b""), ("1.cls", b"1")])
    listing = list_source(str(put({"a.tar": tar, "classes.json": b'["cat", "d\\u00f6g", "owl"]'})))
    assert listing.classes == ("cat", "dög", "owl")
    assert rows(listing, "label") == [(1,)]
    words = pack([("1.jpg", b""), ("1.cls", b"owl")])
    assert list_source(str(put({"a.tar": words, "classes.json": b'["cat"]'}, "words"))).classes == ("owl",)
    for number, content in enumerate((b"{}", b"[1, 2]", b'["cat"]', b"[", b"\xff")):
        with pytest.raises(SpecError, match=r"classes.json is no list of names for 2 classes - mend or remove it"):
            list_source(str(put({"a.tar": tar, "classes.json": content}, f"bad{number}")))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"label": [3, 5]}, r"the label \[3, 5\]"),
        ({"label": 2.5}, "the label 2.5"),
        ({"label": {"id": 4}}, "the label "),
        ({"label": True}, "the label true"),
        ({"caption": {"en": "a cat"}}, "the caption "),
    ],
)
def test_labels_and_captions_of_another_kind_are_named(put, pack, values, message):
    tar = pack([("1.jpg", b"x"), ("1.json", json.dumps(values).encode())])
    with pytest.raises(SpecError, match=f"a.tar: 1.json has {message}.*, which is no word or whole number - mend it"):
        list_source(str(put({"a.tar": tar})))
