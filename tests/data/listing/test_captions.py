"""Captions from a JSON Lines file: matched by name, and refused where they cannot be meant."""

import json

import pytest

from transvae_platform.data.listing.bundled import list_bundled
from transvae_platform.data.listing.captions import with_captions
from transvae_platform.errors import SpecError


@pytest.fixture
def captioned(tmp_path):
    def make(*lines):
        path = tmp_path / "captions.jsonl"
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
        table = with_captions(list_bundled(), path).table
        return {
            name: caption
            for name, caption in zip(*(table[key].to_pylist() for key in ("name", "caption")), strict=True)
            if caption
        }

    return make


def test_images_get_the_captions_of_their_names(captioned):
    found = captioned(
        {"file_name": "rocket.jpg", "caption": "eine Rakete über dem Meer"}, "",
        {"file_name": "skimage/coffee.png", "text": "a cup"},
    )  # fmt: skip
    assert found == {"skimage/rocket.jpg": "eine Rakete über dem Meer", "skimage/coffee.png": "a cup"}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"file_name": "moon.jpg", "caption": "a moon"}, "no image of the source is named moon.jpg"),
        ({"file_name": "rocket.jpg", "caption": " "}, "line 1: not of the form"),
        ({"file_name": "rocket.jpg"}, "line 1: not of the form"),
        ("rocket.jpg: a rocket", "line 1: not of the form"),
        ("[1]", "line 1: not of the form"),
    ],
)
def test_lines_that_say_nothing_are_refused_by_number(captioned, line, told):
    with pytest.raises(SpecError, match=told):
        captioned(line)


def test_two_captions_of_an_image_and_a_missing_file_are_refused(captioned, tmp_path):
    line = {"file_name": "rocket.jpg", "caption": "a rocket"}
    with pytest.raises(SpecError, match=r"line 2: rocket.jpg has two captions"):
        captioned(line, line)
    with pytest.raises(SpecError, match=r"data.captions: .*absent.jsonl cannot be read"):
        with_captions(list_bundled(), tmp_path / "absent.jsonl")


def test_an_edit_names_what_it_is_of(tmp_path):
    path = tmp_path / "captions.jsonl"
    lines = [
        {"file_name": "rocket.jpg", "caption": "a rocket"},
        {"file_name": "coffee.png", "caption": "make it a cup", "source": "rocket.jpg"},
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    table = with_captions(list_bundled(), path).table
    names = table["name"].to_pylist()
    edits = {name: names[row] for name, row in zip(names, table["source"].to_pylist(), strict=True) if row is not None}
    assert edits == {"skimage/coffee.png": "skimage/rocket.jpg"}
    path.write_text(json.dumps(lines[0]))
    assert "source" not in with_captions(list_bundled(), path).table.column_names


@pytest.mark.parametrize(
    ("source", "told"), [("moon.jpg", "no image of the source is named moon.jpg"), (3, "line 1: not of the form")]
)
def test_sources_that_are_none_are_refused(captioned, source, told):
    with pytest.raises(SpecError, match=told):
        captioned({"file_name": "rocket.jpg", "caption": "make it night", "source": source})
