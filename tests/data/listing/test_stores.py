"""Locations are opened whatever they are: paths, file:// URIs, stores of pyarrow and of fsspec."""

import os

import fsspec
import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from transvae_platform.data.listing import list_source
from transvae_platform.data.sets import stores
from transvae_platform.data.sets.stores import as_location, below, local_path, open_file, open_store
from transvae_platform.errors import SpecError, UnreachableError


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """The folder `bucket` in place of s3: pyarrow's own path, without a network."""
    base = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    asked = []

    def from_uri(uri):
        asked.append(uri)
        start, _, _ = uri.removeprefix("s3://").partition("?")
        return base, stores.unquote(start)

    class Fake:
        pass

    Fake.from_uri = staticmethod(from_uri)
    monkeypatch.setattr(stores.pafs, "FileSystem", Fake)
    stores._open_uri.cache_clear()
    yield asked
    stores._open_uri.cache_clear()


def test_local_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert local_path("a/../b") == str(tmp_path / "b")
    assert local_path("file:///x/a%20b%FF") == "/x/a b\udcff"
    assert local_path("~") == os.path.expanduser("~")  # noqa: PTH111
    assert local_path("s3://bucket/a") is None
    assert as_location("/x/ä#%") == "/x/ä#%"
    assert as_location("/x/a%b\udcff") == "file:///x/a%25b%FF"
    (tmp_path / "a").write_bytes(b"123")
    filesystem, path = open_store("a")
    assert filesystem.open_input_file(path).read() == open_file("a").read() == b"123"


def test_uris_of_files(bucket):
    assert below("s3://bucket/my%20photos/?region=x", "a b/c%.jpg") == "s3://bucket/my%20photos/a%20b/c%25.jpg?region=x"
    assert below("memory://bucket", "a b/c%.jpg") == "memory://bucket/a b/c%.jpg"


def test_native_store(put, check, pack, bucket):
    put(["my photos/a b.jpg", "my photos/100%/c?.jpg", "my photos/.hidden/d.jpg"], "bucket")
    listing = list_source("s3://bucket/my%20photos?region=x")
    assert check(listing) == {"a b.jpg": b"my photos/a b.jpg", "100%/c?.jpg": b"my photos/100%/c?.jpg"}
    assert listing.table["path"].to_pylist() == [
        "s3://bucket/my%20photos/100%25/c%3F.jpg?region=x",
        "s3://bucket/my%20photos/a%20b.jpg?region=x",
    ]
    assert all(stamp.partition(":")[2].isdigit() for stamp in listing.table["stamp"].to_pylist())
    assert len(bucket) == 2  # a connection for each folder
    put({"a.tar": pack([("1.jpg", b"one")])}, "bucket")
    assert check(list_source("s3://bucket/a.tar")) == {"a.tar/1.jpg": b"one"}


def test_stamp_prefers_the_etag(put, memory, monkeypatch):
    location = memory(put(["a.jpg"]))
    store = type(fsspec.filesystem("memory"))
    real = store.ls
    monkeypatch.setattr(
        store,
        "ls",
        lambda self, path, detail=True, **more: [
            {**info, "ETag": '"abc"'} for info in real(self, path, detail=True, **more)
        ],
    )
    assert list_source(location).table["stamp"].to_pylist() == ['5:"abc"']


@pytest.mark.parametrize(
    ("location", "message"),
    [
        (
            "nosuch://bucket/a",
            r"nosuch://bucket/a cannot be opened \(Protocol not known: nosuch\) - give a local path, or",
        ),
        ("s3://my bucket/a", r"s3://my bucket/a cannot be opened \(.*\) - correct it"),
        ("simplecache::memory://b", "simplecache::memory://b chains stores .* - give the last one itself"),
        ("dir::simplecache::memory://b", "dir::simplecache::memory://b chains stores"),
        ("zip://::/b/c.zip", "zip://::/b/c.zip chains stores"),
        ("zip::file:///b/c.zip", "zip::file:///b/c.zip chains stores"),
        ("s3://", "s3:// names no bucket - give one"),
        ("github://", r"github:// cannot be opened \(.*\) - give a local path, or"),
        ("a\0b", r"a\\x00b holds a NUL"),
        ("file:///a%00b", "file:///a%00b holds a NUL"),
        ("n" * 300, ".*n{300} cannot be read"),
    ],
)
def test_locations_that_nothing_opens(location, message):
    with pytest.raises(SpecError, match=f"data.path: {message}"):
        list_source(location)


def test_two_colons_in_a_name_are_no_chain(put, check, memory):
    root = put(["a::b.jpg"], "c::d")
    assert check(list_source(str(root))).keys() == {"a::b.jpg"}
    assert check(list_source(f"{memory(root)}")).keys() == {"a::b.jpg"}


def test_store_without_its_package(monkeypatch):
    def refuse(uri):
        raise ImportError("Please install adlfs to access Azure")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    with pytest.raises(SpecError, match=r"az://c/a needs a package .*\(Please install adlfs.*\) - install adlfs"):
        open_store("az://c/a")


def test_stores_that_do_not_answer(put, memory, monkeypatch):
    def refuse(*arguments):
        raise OSError("no route to host\nand more")

    class Fake:
        from_uri = staticmethod(refuse)

    location = memory(put(["a.jpg"]))
    monkeypatch.setattr(pafs.FSSpecHandler, "get_file_info", refuse)
    with pytest.raises(
        UnreachableError, match=r"memory://bucket does not answer \(no route to host\) - is the store up\?"
    ):
        list_source(location)
    monkeypatch.setattr(stores.pafs, "FileSystem", Fake)
    with pytest.raises(UnreachableError, match=r"hdfs://h/a cannot be opened \(no route to host\) - is the store up"):
        list_source("hdfs://h/a")


def test_arrow_still_maps_files_with_odd_names(tmp_path):
    raw = os.fsencode(tmp_path) + b"/\xff.bin"
    try:
        with open(raw, "wb") as file:  # noqa: PTH123
            file.write(b"abc")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert stores.map_file(as_location(os.fsdecode(raw))).read() == b"abc"
    with pytest.raises((FileNotFoundError, pa.ArrowInvalid)):
        stores.map_file(str(tmp_path / "missing"))
