"""Tables are read alike from three formats, and what is no table is named."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from transvae_platform.fitting.runs.read import TableError, read_runs, runs_of

ROWS = [{"family": "cnn", "n": 1.5, "note": "a,b"}, {"family": "vit", "n": None, "note": ""}]


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.csv").write_text('family,n,note\ncnn,1.5,"a,b"\nvit,,\n')
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    return tmp_path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_three_formats_hold_the_same_table(files, kind):
    runs = read_runs(files / f"a.{kind}")
    assert list(runs.columns) == ["family", "n", "note"]
    np.testing.assert_array_equal(runs.column("n"), [1.5, np.nan])
    assert runs.column("family").tolist() == ["cnn", "vit"]
    assert runs.column("note").tolist() == ["a,b", ""]
    assert runs.numbers.tolist() == ([2, 3] if kind == "csv" else [1, 2])
    assert len(runs.sha256) == 64


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("b.csv", "n,loss\n1\n", "line 2 has another number of fields"),
        ("b.csv", "n,loss\n1,2,3\n", "line 2 has another number of fields"),
        ("b.csv", 'n,loss\n1,"2\n', "is not CSV"),
        ("b.csv", "n,n\n1,2\n", "two columns have the same name"),
        ("b.csv", "n,loss\n", "holds no rows"),
        ("b.jsonl", "[1, 2]\n", "one JSON object"),
        ("b.jsonl", "{n: 1}\n", "is not a jsonl file"),
        ("b.jsonl", '{"n": 1, "n": 2}\n', "two keys of an object have the same name"),
        ("b.parquet", "no parquet", "is not a parquet file"),
        ("b.txt", "n,loss", "a .csv, .jsonl or .parquet file"),
    ],
)
def test_what_is_no_table_is_named(tmp_path, name, text, why):
    (tmp_path / name).write_text(text)
    with pytest.raises(TableError, match=why):
        read_runs(tmp_path / name)


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    (tmp_path / "bom.csv").write_text("\ufefffamily,n\ncnn,1\n")
    assert list(read_runs(tmp_path / "bom.csv").columns) == ["family", "n"]


def test_missing_files_and_columns_are_named(files):
    with pytest.raises(TableError, match="cannot be read"):
        read_runs(files / "none.csv")
    with pytest.raises(TableError, match="no column 'N' - there are family, n, note"):
        read_runs(files / "a.csv").column("N")


def test_a_binary_csv_is_named(tmp_path):
    (tmp_path / "c.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TableError, match="is not a csv file"):
        read_runs(tmp_path / "c.csv")


def test_hash_follows_the_rows():
    assert runs_of(ROWS, "x").sha256 == runs_of([dict(row) for row in ROWS], "y").sha256
    assert runs_of(ROWS, "x").sha256 != runs_of([*ROWS, ROWS[0]], "x").sha256
