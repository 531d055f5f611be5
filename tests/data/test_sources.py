"""Photographs are found in dependencies or in a folder, in an order of their own."""

import hashlib
import shutil

import pytest
from PIL import Image

from transvae_platform.data.sources import BUNDLED, list_photographs
from transvae_platform.errors import SpecError


def test_bundled_photographs_are_installed_with_a_licence_each(section):
    found = list_photographs(section())
    assert len(found) == sum(map(len, BUNDLED.values())) >= 10
    assert [photo.index for photo in found] == list(range(len(found)))
    assert [photo.name for photo in found] == sorted(photo.name for photo in found)
    for photo in found:
        with Image.open(photo.path) as image:
            assert min(image.size) >= 256
    for entries in BUNDLED.values():
        assert all("CC" in licence or "public domain" in licence or "no known" in licence for _, licence in entries)


def test_folder_is_searched_through_for_images_only(photos, section):
    folder = photos(2)
    (folder / "deep").mkdir()
    shutil.copy(folder / "p1.png", folder / "deep" / "UPPER.PNG")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"thumbnail")
    (folder / "folder.png").mkdir()
    found = list_photographs(section(folder))
    assert [photo.name for photo in found] == ["deep/UPPER.PNG", "p0.png", "p1.png"]
    assert found[0].sha256 == found[2].sha256 == hashlib.sha256((folder / "p1.png").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: None, r"data.path: .*/images does not exist - give the folder that holds your images"),
        (lambda path: path.write_text(""), r"data.path: .*/images is a file - give the folder that holds your images"),
        (lambda path: path.mkdir(), r"data.path: .*/images holds no images \(.jpg, .* - is it the right folder\?"),
        (lambda path: (path / "a").mkdir(parents=True), r"data.path: .*/images holds no images"),
    ],
    ids=["missing", "file", "empty", "without images"],
)
def test_folder_that_cannot_serve_is_refused(tmp_path, section, prepare, message):
    prepare(tmp_path / "images")
    with pytest.raises(SpecError, match=message):
        list_photographs(section(tmp_path / "images"))


def test_dependency_without_its_photographs_is_refused(section, monkeypatch):
    monkeypatch.setitem(BUNDLED, "skimage/data", (("gone.png", "CC0"),))
    with pytest.raises(
        SpecError, match=r"data.source: skimage of this installation has no gone.png - run `make install`"
    ):
        list_photographs(section())
    monkeypatch.setitem(BUNDLED, "no_such_package/data", (("a.png", "CC0"),))
    monkeypatch.delitem(BUNDLED, "skimage/data")
    with pytest.raises(SpecError, match="bundled photographs need the package no_such_package"):
        list_photographs(section())
