"""Listings with more text than one array of Arrow holds: all rows are there, in order, and the key is of values."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from transvae_platform.data.listing import schema
from transvae_platform.data.listing.schema import make_listing
from transvae_platform.data.making.ingest import ingest_key
from transvae_platform.data.making.split import split_listing
from transvae_platform.study.data_spec import Data

GIB = 2**30


def rows_of(count, caption, *, chunks=1):
    """Rows in reverse order of their names; the captions are as many pieces as asked for."""
    numbers = list(reversed(range(count)))
    names = pa.array([f"{number:04d}.jpg" for number in numbers])
    parts = np.array_split(numbers, chunks)
    pieces = pa.chunked_array([pa.array([caption(int(number)) for number in part], pa.string()) for part in parts])
    paths = pa.array([f"/source/{name}" for name in names.to_pylist()])
    return pa.table({"name": names, "path": paths, "caption": pieces, "stamp": pa.repeat("1:1", count)})


@pytest.mark.parametrize(("most", "pieces"), [(1, 50), (40, 50), (400, 4), (10**9, 1)])
def test_rows_are_sorted_piece_by_piece(monkeypatch, most, pieces):
    monkeypatch.setattr(schema, "MOST_TEXT", most)
    taken, real = [], pa.concat_tables
    monkeypatch.setattr(schema.pa, "concat_tables", lambda tables: taken.extend(tables) or real(tables))
    table = make_listing("here", "folder", rows_of(50, lambda number: "ä" * (number % 2) or None, chunks=3)).table
    assert table["name"].to_pylist() == [f"{number:04d}.jpg" for number in range(50)]
    assert table["caption"].to_pylist() == ["ä" * (number % 2) or None for number in range(50)]
    assert len(taken) == pieces


def test_key_hangs_on_the_values_not_on_the_pieces():
    data = Data(source="folder", path="here", resolution=16)
    listings = [make_listing("here", "folder", rows_of(50, str, chunks=chunks)) for chunks in (1, 7)]
    other = make_listing("here", "folder", rows_of(50, lambda number: str(number + (number == 30)), chunks=7))
    keys = [ingest_key(split_listing(listing, data), (), data) for listing in (*listings, other)]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.slow
def test_more_than_two_gib_of_captions():
    count, letters = 3, GIB * 3 // 4
    data = Data(source="folder", path="here", resolution=16, holdout=0.3)
    listing = make_listing("here", "folder", rows_of(count, lambda n: "\0" * (letters - 1) + chr(65 + n), chunks=count))
    captions = listing.table["caption"]
    assert pc.binary_length(captions).to_pylist() == [letters] * count
    assert [bytes(caption.as_buffer()[letters - 1 :]) for caption in captions] == [b"A", b"B", b"C"]
    table = split_listing(listing, data)
    assert sorted(table["item"].to_pylist()) == list(range(count))
    assert len(ingest_key(table, (), data)) == 16
