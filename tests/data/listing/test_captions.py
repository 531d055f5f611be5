"""Captions from a JSON Lines file: matched by name, and refused where they cannot be meant."""

import json
from dataclasses import replace

import pyarrow as pa
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


def test_all_lines_that_cannot_be_meant_are_named_at_once(captioned):
    lines = [
        {"file_name": "moon.jpg", "caption": "a moon"},
        {"file_name": "rocket.jpg", "caption": "a rocket"},
        {"file_name": "skimage/rocket.jpg", "caption": "another"},
        {"file_name": "coffee.png", "caption": "make it tea", "source": "tea.png"},
    ]
    with pytest.raises(SpecError) as told:
        captioned(*lines)
    for part in ("named moon.jpg", "skimage/rocket.jpg has two captions, as rocket.jpg, too", "named tea.png"):
        assert part in str(told.value)


def test_a_caption_of_the_source_is_neither_lost_nor_replaced(tmp_path):
    listing = list_bundled()
    place, own = listing.table.schema.get_field_index("caption"), [None] * len(listing.table)
    own[0], names = "its own", listing.table["name"].to_pylist()
    listing = replace(listing, table=listing.table.set_column(place, "caption", pa.array(own, pa.string())))
    path = tmp_path / "captions.jsonl"
    path.write_text(json.dumps({"file_name": names[1], "caption": "given"}))
    assert with_captions(listing, path).table["caption"].to_pylist()[:2] == ["its own", "given"]
    path.write_text(json.dumps({"file_name": names[0], "caption": "given"}))
    with pytest.raises(SpecError, match=r"has one in the source itself\n  files .* broken may hold them: a.parquet"):
        with_captions(replace(listing, broken=("a.parquet",)), path)


def test_a_caption_may_hold_other_ends_of_lines(captioned):
    line = json.dumps({"file_name": "rocket.jpg", "caption": "up\u2028and away"}, ensure_ascii=False)
    assert captioned(line) == {"skimage/rocket.jpg": "up\u2028and away"}
