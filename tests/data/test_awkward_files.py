"""File names and files that people really have, and that broke things before."""

import os
import struct

import pytest
from PIL import Image

from transvae_platform.data import views
from transvae_platform.data.sources import list_photographs
from transvae_platform.data.views import UnreadableImageError, decode_photograph
from transvae_platform.errors import SpecError
from transvae_platform.study.spec import Data


def folder_data(path):
    return Data(source="folder", path=path, resolution=32)


@pytest.mark.parametrize("error", [struct.error("argument is not an integer"), TypeError("bad operand"), KeyError(7)])
def test_whatever_a_decoder_raises_is_an_unreadable_image(tmp_path, monkeypatch, error):
    def broken(image):
        raise error

    monkeypatch.setattr(views.ImageOps, "exif_transpose", broken)  # seen with damaged EXIF blocks
    Image.new("RGB", (40, 40)).save(tmp_path / "a.jpg")
    with pytest.raises(UnreadableImageError):
        decode_photograph((tmp_path / "a.jpg").read_bytes())


def test_name_that_is_no_utf8_can_be_written_and_printed(tmp_path):
    try:
        Image.new("RGB", (40, 40)).save(os.fsencode(tmp_path) + b"/caf\xe9.png", format="PNG")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (photograph,) = list_photographs(folder_data(tmp_path))
    assert photograph.name.encode("utf-8") == b"caf\\udce9.png"


def test_broken_link_is_named(tmp_path):
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    with pytest.raises(SpecError, match=r"gone\.jpg cannot be read"):
        list_photographs(folder_data(tmp_path))


def test_linked_folders_are_read_once_and_circles_end(tmp_path):
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    Image.new("RGB", (40, 40)).save(shelf / "a.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(shelf)
    (shelf / "up").symlink_to(root)
    names = [photograph.name for photograph in list_photographs(folder_data(root))]
    assert names == ["linked/a.png"]
