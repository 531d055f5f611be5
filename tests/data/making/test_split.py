"""What is held out is decided from the listing: by name, by share, or by the source itself."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from transvae_platform.data.listing import Listing, list_source
from transvae_platform.data.listing.schema import make_listing
from transvae_platform.data.making.ingest import ingest_key
from transvae_platform.data.making.split import split_listing
from transvae_platform.errors import SpecError


def sides(table):
    names, splits = table.column("name").to_pylist(), table.column("split").to_pylist()
    return {side: {name for name, split in zip(names, splits, strict=True) if split == side} for side in set(splits)}


@pytest.mark.parametrize(("share", "held"), [(0.01, 1), (0.2, 2), (0.5, 5), (0.9, 9)])
def test_share_of_the_images_is_held_out(photos, section, share, held):
    listing = list_source(str(photos(10)))
    found = sides(split_listing(listing, section(holdout=share)))
    assert len(found["validation"]) == held
    assert found["train"] | found["validation"] == set(listing.table.column("name").to_pylist())
    assert not found["train"] & found["validation"]


def test_draw_depends_on_names_and_seed_and_stays_when_images_are_added(photos, section):
    folder = photos(40)
    before = sides(split_listing(list_source(str(folder)), section(holdout=0.25)))["validation"]
    (folder / "p7.png").unlink()
    (folder / "p8.png").unlink()
    after = sides(split_listing(list_source(str(folder)), section(holdout=0.25)))["validation"]
    assert len(before - after) <= 3  # those removed, or pushed over the edge
    draws = {
        frozenset(sides(split_listing(list_source(str(folder)), section(holdout=0.25, seed=seed)))["validation"])
        for seed in range(5)
    }
    assert len(draws) == 5


def test_named_images_are_held_out_and_rows_keep_their_number(photos, section):
    table = split_listing(list_source(str(photos(4))), section(holdout=["p1", "p3"]))
    assert sides(table) == {"train": {"p0.png", "p2.png"}, "validation": {"p1.png", "p3.png"}}
    assert table.column("item").to_pylist() == [1, 3, 0, 2]  # held-out rows first
    assert table.column("name").to_pylist() == ["p1.png", "p3.png", "p0.png", "p2.png"]


def test_own_split_of_the_source_is_used_unless_a_share_is_asked_for(photos, section):
    listing = list_source(str(photos(6)))
    own = listing.table.set_column(
        listing.table.column_names.index("split"), "split", [["train"] * 4 + ["validation"] * 2]
    )
    listing = Listing(own, (), "folder")
    assert sides(split_listing(listing, section()))["validation"] == {"p4.png", "p5.png"}
    assert len(sides(split_listing(listing, section(holdout=0.5)))["validation"]) == 3
    assert set(sides(split_listing(listing, section(holdout=1.0)))) == {"validation"}


def test_a_tenth_is_held_out_where_nobody_says(photos, section):
    assert len(sides(split_listing(list_source(str(photos(20))), section()))["validation"]) == 2


@pytest.mark.parametrize(
    ("holdout", "message"),
    [
        (["p11"], "data.holdout: no image is named 'p11' - did you mean 'p1'?"),
        (["zebra"], "data.holdout: no image is named 'zebra' - there are: p0, p1, p2"),
        (["p0", "p1", "p2"], "would be held out, none is left to train on"),
        (0.99, "data.holdout: all 3 images of bundled would be held out"),
    ],
)
def test_hold_out_that_cannot_be_is_refused(photos, section, holdout, message):
    with pytest.raises(SpecError) as caught:
        split_listing(list_source(str(photos(3))), section(holdout=holdout))
    assert message in str(caught.value)


def test_a_source_of_training_images_only_gives_a_tenth(photos, section):
    listing = list_source(str(photos(20)))
    only = listing.table.set_column(listing.table.column_names.index("split"), "split", [["train"] * 20])
    assert len(sides(split_listing(Listing(only, (), "folder"), section()))["validation"]) == 2


@pytest.mark.parametrize(("holdout", "held"), [(None, 4), (1.0, 4), (0.5, 2)])
def test_a_source_for_validation_alone_is_a_data_set_for_evaluations(photos, section, holdout, held):
    listing = list_source(str(photos(4)))
    only = listing.table.set_column(listing.table.column_names.index("split"), "split", [["validation"] * 4])
    table = split_listing(Listing(only, (), "folder"), section(holdout=holdout))
    assert table["split"].to_pylist().count("validation") == held


def test_shares_are_near_what_is_asked_over_many_names(section, photos):
    listing = list_source(str(photos(60)))
    held = [
        split_listing(listing, section(holdout=0.5, seed=seed)).column("split").to_numpy() == "validation"
        for seed in range(8)
    ]
    rows = np.stack(held)
    assert (rows.sum(1) == 30).all()


def test_an_image_on_no_side_beside_held_out_ones_is_named(put_images, section):
    for stray, message in {"extra/e.png": "extra/e.png", "preview.png": "preview.png"}.items():
        folder = put_images(["train/a.png", "train/b.png", "val/c.png", stray], stray.replace("/", "-"))
        with pytest.raises(SpecError, match=rf"has images for validation, but {message} lies on no side - move it"):
            split_listing(list_source(str(folder)), section(folder))
        assert len(sides(split_listing(list_source(str(folder)), section(folder, holdout=0.5)))["validation"]) == 2


@pytest.fixture
def put_images(tmp_path):
    """A folder with files of these names."""

    def make(names, name):
        for file in names:
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.encode())
        return tmp_path / name

    return make


@pytest.mark.slow
def test_captions_above_two_gibibytes_are_split_sorted_and_told_apart(section):
    long, other = (pa.array([letter * (1100 << 20)]) for letter in "xy")
    keys = []
    for last in (long, other):
        captions = pa.chunked_array([long, pa.array(["short"]), last])
        listing = make_listing("x", "folder", pa.table({"name": ["b", "c", "a"], "caption": captions}))
        assert listing.table["name"].to_pylist() == ["a", "b", "c"]
        table = split_listing(listing, section(holdout=["c"]))
        assert table["item"].to_pylist() == [2, 0, 1]
        assert [len(value.as_buffer()) for value in table["caption"]] == [5, 1100 << 20, 1100 << 20]
        keys.append(ingest_key(table, (), section()))
    assert keys[0] != keys[1]


def test_names_of_the_classes_are_part_of_the_key(photos, section):
    table = split_listing(list_source(str(photos(2))), section())
    assert ingest_key(table, ["cat", "dog"], section()) != ingest_key(table, ["dog", "cat"], section())


@pytest.fixture
def with_edits(photos, section):
    """The split of ten images of which some are edits: row -> its source."""

    listing = list_source(str(photos(10)))

    def split(sources, **changes):
        column = pa.array([sources.get(row) for row in range(10)], pa.int64())
        table = listing.table.append_column("source", column)
        found = split_listing(replace(listing, table=table), section(**changes))
        held = {item for item, split in zip(*(found[key].to_pylist() for key in ("item", "split")), strict=True)
                if split == "validation"}  # fmt: skip
        assert found["source"].null_count == 10 - len(sources)
        return held

    return split


@pytest.mark.parametrize("seed", range(8))
def test_an_edit_stays_with_its_source_on_either_side(with_edits, seed):
    sources = {1: 0, 2: 1, 5: 4, 9: 8, 3: 2}  # one is an edit of an edit of an edit
    held = with_edits(sources, holdout=0.3, seed=seed)
    assert all((row in held) == (source in held) for row, source in sources.items())
    assert 3 <= len(held) <= 6


def test_edits_that_are_torn_apart_go_in_circles_or_would_be_cut_are_refused(with_edits, section):
    with pytest.raises(SpecError, match=r"p1.png and the image that it is an edit of are not both held out"):
        with_edits({1: 0}, holdout=("p1",))
    assert with_edits({1: 0}, holdout=("p0", "p1")) == {0, 1}
    with pytest.raises(SpecError, match=r"data.captions: p0.png is an edit of its own edits"):
        with_edits({0: 1, 1: 2, 2: 0}, holdout=0.3)
    with pytest.raises(SpecError, match=r"data.view: crops of an image and of its edit would not show the same part"):
        with_edits({1: 0}, holdout=0.3, view={"kind": "crops", "per_photograph": 2})
