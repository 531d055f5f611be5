"""The contact sheet shows pictures from all over the split, with their text below them."""

import numpy as np
import pyarrow as pa
import pytest

from transvae_platform.data.exchange.sheet import GAP, LARGEST, LINE, SMALLEST, contact_sheet
from transvae_platform.data.sets.local import LocalShelf
from transvae_platform.data.sets.manifest import Manifest
from transvae_platform.data.sets.samples import SampleSet
from transvae_platform.data.sets.shards import image_field, write_shard
from transvae_platform.errors import UserError


@pytest.fixture
def samples(tmp_path):
    """A split whose picture number i has the grey level i, in two shards of equal size."""

    def make(count=100, side=SMALLEST, labels=None, captions=None, classes=(), kind="images", parts=2):
        field = image_field(side)
        shards = []
        for start in range(0, count, max(1, count // parts)):
            rows = np.arange(start, min(start + max(1, count // parts), count))
            pictures = np.broadcast_to(rows[:, None, None, None], (len(rows), side, side, 3)).astype(np.uint8)
            columns = {"item": pa.array(rows)}
            if labels:
                columns["label"] = pa.array([labels[row] for row in rows.tolist()], pa.int32())
            if captions:
                columns["caption"] = pa.array([captions[row] for row in rows.tolist()], pa.string())
            shards.append(write_shard(tmp_path / f"{start}.arrow", "train", {field: pictures}, columns))
        manifest = Manifest(
            "f" * 16, kind, (field,), count, tuple(shards), (), {"resolution": side}, {"classes": list(classes)}, {}
        )
        return SampleSet(manifest, LocalShelf(tmp_path), "train")

    return make


def middle(sheet, row, column, side, text=0):
    return sheet.getpixel((GAP + column * (side + GAP) + side // 2, GAP + row * (side + GAP + text) + side // 2))


def test_pictures_are_spread_over_the_split(samples):
    sheet = contact_sheet(samples(), count=5, columns=3)
    assert sheet.size == (3 * (SMALLEST + GAP) + GAP, 2 * (SMALLEST + GAP) + GAP)
    levels = [middle(sheet, place // 3, place % 3, SMALLEST)[0] for place in range(5)]
    assert levels == [0, 25, 50, 74, 99]
    assert middle(sheet, 1, 2, SMALLEST) == (255, 255, 255)


@pytest.mark.parametrize(("distant", "opened"), [(True, 4), (False, 20)])
def test_a_distant_split_is_shown_out_of_few_shards(samples, monkeypatch, distant, opened):
    seen, real = set(), LocalShelf.open
    monkeypatch.setattr(LocalShelf, "distant", distant)
    monkeypatch.setattr(LocalShelf, "open", lambda self, shard: seen.add(shard.file) or real(self, shard))
    sheet = contact_sheet(samples(200, labels=[0] * 200, parts=20), count=40)
    assert len(seen) == opened
    assert {"0.arrow", "190.arrow"} < seen  # from the first to the last
    levels = [middle(sheet, place // 8, place % 8, SMALLEST, LINE)[0] for place in range(40)]
    assert levels == sorted(set(levels))
    assert (levels[0], levels[-1]) == (0, 199)


def test_split_smaller_than_the_sheet_is_shown_once(samples):
    sheet = contact_sheet(samples(3))
    assert [middle(sheet, 0, place, SMALLEST)[0] for place in range(3)] == [0, 1, 2]
    assert sheet.size == (3 * (SMALLEST + GAP) + GAP, SMALLEST + GAP + GAP)


@pytest.mark.parametrize(("side", "shown"), [(16, SMALLEST), (128, 128), (512, LARGEST)])
def test_pictures_have_a_size_to_look_at(samples, side, shown):
    sheet = contact_sheet(samples(2, side), columns=1)
    assert sheet.size == (shown + 2 * GAP, 2 * (shown + GAP) + GAP)
    assert middle(sheet, 1, 0, shown) == (1, 1, 1)


def test_text_stands_below_the_pictures(samples):
    plain, named, captioned = (
        contact_sheet(samples(2, **texts), columns=2)
        for texts in ({}, {"labels": [0, 7], "classes": ["heron"]}, {"labels": [0, 1], "captions": ["a " * 5000, None]})
    )
    assert named.height == plain.height + LINE
    assert captioned.height == plain.height + 2 * LINE
    text = np.asarray(captioned.convert("L"))[GAP + SMALLEST :]
    half = GAP + SMALLEST + GAP // 2
    assert (text[:, :half] < 128).any()
    assert (text[:, half - 2 : half + 2] == 255).all()  # a long caption is cut to its picture
    assert (text[:LINE, half:] < 128).any()
    assert (text[LINE:, half:] == 255).all()  # no caption, no text


def test_any_letters_can_be_drawn(samples):
    contact_sheet(samples(3, captions=["größer", "鹭\tn\x00\nl", "🐦" * 300]))


def test_nothing_to_show_is_refused(samples):
    with pytest.raises(UserError, match="holds no images"):
        contact_sheet(samples(0))
    with pytest.raises(UserError, match="holds no images"):
        contact_sheet(samples(2, kind="latents"))
