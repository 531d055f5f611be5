"""Broken tars and tables are named together, and a look at a source goes on without them."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transvae_platform.data.listing import list_source
from transvae_platform.errors import SpecError, UnreachableError


def parquet(folder, name, **columns):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns or {"image": [b"a", b"b"]}), path)
    return path.read_bytes()


@pytest.fixture
def tars(put, pack):
    """Five tars, of which three are broken, each in its own way."""
    whole = pack([(f"{number}.jpg", b"x" * 1000) for number in range(3)])
    return put({
        "a.tar": whole, "b.tar": whole[:2000], "c.tar": pack([("1.jpg", b""), ("1.png", b"")]), "d.tar": whole,
        "e.tar.gz": b"",
    })  # fmt: skip


def test_every_broken_tar_is_named_in_one_error(tars):
    with pytest.raises(SpecError) as caught:
        list_source(str(tars))
    first, *lines = str(caught.value).splitlines()
    assert first == f"data.path: 3 files of {tars} cannot be used - mend each, or move it away:"
    assert [line.split()[0] for line in lines] == [f"{tars}/{name}" for name in ("b.tar", "c.tar", "e.tar.gz")]
    for line, what in zip(lines, ("damaged or cut off at byte", "has several images", "is compressed"), strict=True):
        assert what in line


def test_a_look_goes_on_without_the_broken_tars(tars, rows):
    listing = list_source(str(tars), skip_broken=True)
    assert [name for (name,) in rows(listing, "name")] == [f"{tar}.tar/{n}.jpg" for tar in "ad" for n in range(3)]
    assert [wrong.split()[0] for wrong in listing.broken] == [f"{tars}/{tar}" for tar in ("b.tar", "c.tar", "e.tar.gz")]
    (tars / "a.tar").unlink()
    (tars / "d.tar").unlink()
    with pytest.raises(SpecError, match="3 files of"):  # nothing is left to look at: the broken files are the answer
        list_source(str(tars), skip_broken=True)


def test_every_broken_table_is_named_in_one_error(tmp_path, rows):
    whole = parquet(tmp_path, "a.parquet")
    (tmp_path / "b.parquet").write_bytes(whole[:-10])
    (tmp_path / "c.arrow").write_bytes(b"")
    parquet(tmp_path, "d.parquet", path=["x.jpg"])
    with pytest.raises(SpecError) as caught:
        list_source(str(tmp_path))
    assert "data.path: 3 files of" in str(caught.value)
    broken = list_source(str(tmp_path), skip_broken=True).broken
    for name, what, wrong in zip(("b.parquet", "c.arrow", "d.parquet"), ("cannot be read",) * 2 + ("has no image",),
                                 broken, strict=True):  # fmt: skip
        assert f"{tmp_path}/{name} {what}" in wrong
        assert wrong in str(caught.value)
    assert len(rows(list_source(str(tmp_path), skip_broken=True), "name")) == 2


def test_every_fault_of_a_saved_data_set_is_named_in_one_error(put, tmp_path):
    table = pa.table({"image": [b"a", b"b"]})
    with pa.ipc.new_stream(str(tmp_path / "whole"), table.schema) as writer:
        writer.write_table(table)
    whole = (tmp_path / "whole").read_bytes()
    state = {"_data_files": [{"filename": f"{number}.arrow"} for number in range(3)]}
    root = put({
        "dataset_dict.json": b'{"splits": ["train", "test", "lost"]}', "test/state.json": b"{",
        "train/state.json": json.dumps(state).encode(), "train/0.arrow": whole, "train/1.arrow": b"cut",
    })  # fmt: skip
    with pytest.raises(SpecError, match="4 files of") as caught:
        list_source(str(root))
    for what in ("test/state.json is damaged", "has no lost/state.json", "names train/2.arrow but it is missing",
                 "train/1.arrow cannot be read"):  # fmt: skip
        assert what in str(caught.value)
    assert list_source(str(root), skip_broken=True).table.num_rows == 2


def test_an_outage_is_no_broken_file(put, memory, monkeypatch):
    from transvae_platform.data.listing import webdataset

    def refuse(path):
        raise OSError("connection reset")

    location = memory(put({"a.tar": b"", "b.tar": b""}))
    monkeypatch.setattr(webdataset, "open_file", refuse)
    with pytest.raises(UnreachableError, match="connection reset"):
        list_source(location, skip_broken=True)


def test_pipes_among_tars_and_tables_are_broken_files(put, pack):
    root = put({"a.tar": pack([("1.jpg", b"x")])})
    os.mkfifo(root / "b.tar")
    with pytest.raises(SpecError, match=r"b.tar cannot be read \(it is a pipe, a socket or a device\)"):
        list_source(str(root))
