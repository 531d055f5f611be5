"""Bytes come in the listing's order, from every kind of file, without reading more than is needed."""

import errno
import os

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from transvae_platform.data.listing import list_source, reading
from transvae_platform.data.listing.reading import read_items
from transvae_platform.data.listing.tables import is_parquet
from transvae_platform.errors import UnreachableError


@pytest.fixture
def opened(monkeypatch):
    """The paths of all files that are opened for reading items."""
    paths = []
    for name in ("open_file", "map_file"):
        real = getattr(reading, name)
        monkeypatch.setattr(reading, name, lambda path, real=real: paths.append(path) or real(path))
    return paths


def write(path, count, kind="parquet", *, rows=10):
    made = pa.table({"image": [b"%s %d" % (path.stem.encode(), number) for number in range(count)]})
    if kind == "parquet":
        pq.write_table(made, path, row_group_size=rows)
    else:
        with pa.ipc.new_stream(str(path), made.schema) as writer:
            writer.write_table(made, max_chunksize=rows)


def test_huge_files_and_members_are_never_read(put, pack, monkeypatch):
    monkeypatch.setattr(reading, "MOST_BYTES", 6)
    folder = put(["a.jpg", "b.jpg"])
    with (folder / "huge.jpg").open("wb") as file:
        file.truncate(60 * 10**9)  # sparse: takes no room on the disk
    tar = put({"a.tar": pack([("1.jpg", b"1234567"), ("2.jpg", b"123456")])}, "tars")
    for source, reasons in (
        (folder, ["", "", "its 60000000000 bytes are above the limit of 6"]),
        (tar, ["its 7 bytes are above the limit of 6", ""]),
    ):
        items = list(read_items(list_source(str(source)).table))
        assert [reason for _, _, reason in items] == reasons
        assert [content is None for _, content, _ in items] == [bool(reason) for reason in reasons]


@pytest.mark.parametrize("made", ["parquet", "stream", "file"])
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view(), None], ids=str)
def test_huge_rows_of_tables_are_never_copied(tmp_path, monkeypatch, kind, made):
    """None: a struct, as `datasets` writes images."""
    monkeypatch.setattr(reading, "MOST_BYTES", 14)
    values = [b"small", b"x" * 15, None, b"x" * 14, b"y" * 1_000_000]
    if kind is None:
        values, kind = [value and {"bytes": value} for value in values], pa.struct({"bytes": pa.binary()})
    made_of = pa.table({"image": pa.array(values, kind)})
    path = tmp_path / f"a.{'parquet' if made == 'parquet' else 'arrow'}"
    if made == "parquet":
        pq.write_table(made_of, path)
    else:
        with (pa.ipc.new_stream if made == "stream" else pa.ipc.new_file)(str(path), made_of.schema) as writer:
            writer.write_table(made_of)
    items = list(read_items(list_source(str(path)).table))
    assert [content for _, content, _ in items] == [b"small", None, None, b"x" * 14, None]
    assert [reason for _, _, reason in items] == [
        "", "its 15 bytes are above the limit of 14", "its row holds no bytes", "",
        "its 1000000 bytes are above the limit of 14",
    ]  # fmt: skip


def test_one_row_of_parquet_at_a_time_is_held(tmp_path):
    rows, size = 16, 1_000_000
    images = pa.table({"image": [os.urandom(size) for _ in range(rows)]})
    pq.write_table(images, tmp_path / "a.parquet", write_batch_size=1, data_page_size=1, use_dictionary=False)
    del images
    table, before, most = list_source(str(tmp_path)).table, pa.total_allocated_bytes(), 0
    for _, content, _ in read_items(table):
        assert content is not None
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 6 * size  # a page, its row and the buffer of the file


def test_missing_files_cost_their_images_only(put):
    root = put(["a.jpg", "b.jpg", "c.jpg"])
    table = list_source(str(root)).table
    (root / "b.jpg").unlink()
    assert list(read_items(table)) == [(0, b"a.jpg", ""), (1, None, "its file is missing"), (2, b"c.jpg", "")]
    (root / "a.jpg").unlink()
    (root / "a.jpg").mkdir()
    ((position, content, reason),) = read_items(table.slice(0, 1))
    assert (position, content) == (0, None)
    assert reason.startswith("it cannot be read (")


def test_reading_is_lazy(put):
    root = put(["a.jpg", "b.jpg"])
    items = read_items(list_source(str(root)).table)
    assert next(items)[1] == b"a.jpg"
    (root / "b.jpg").write_bytes(b"changed")
    assert next(items)[1] == b"changed"


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_each_table_is_opened_once_and_rows_may_come_in_any_order(tmp_path, opened, kind):
    write(tmp_path / f"a.{kind}", 35, kind)
    write(tmp_path / f"b.{kind}", 35, kind)
    table = list_source(str(tmp_path)).table
    assert [content for _, content, _ in read_items(table.slice(30, 10))] == [
        *(b"a %d" % number for number in range(30, 35)),
        *(b"b %d" % number for number in range(5)),
    ]
    assert opened == [str(tmp_path / f"a.{kind}"), str(tmp_path / f"b.{kind}")]
    order = [40, 3, 3, 34, 12, 0, 69]
    expected = [(b"a %d" if index < 35 else b"b %d") % (index % 35) for index in order]
    assert list(read_items(table.take(order))) == [(place, item, "") for place, item in enumerate(expected)]


def test_only_wanted_row_groups_are_read(tmp_path, monkeypatch):
    write(tmp_path / "a.parquet", 100)
    table = list_source(str(tmp_path)).table
    groups = []
    real = pq.ParquetFile.iter_batches

    def iter_batches(self, size, *, row_groups, columns):
        groups.extend(row_groups)
        return real(self, size, row_groups=row_groups, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", iter_batches)
    assert len(list(read_items(table.take([5, 6, 55, 57, 58, 60])))) == 6
    assert groups == [0, 5, 6]


def test_more_rows_than_are_held_at_a_time(tmp_path, opened, monkeypatch):
    monkeypatch.setattr(reading, "ROWS", 7)
    write(tmp_path / "a.parquet", 100)
    items = list(read_items(list_source(str(tmp_path)).table))
    assert items == [(number, b"a %d" % number, "") for number in range(100)]
    assert len(opened) == 1


def test_a_large_row_group_is_not_read_whole(tmp_path):
    rows = 128
    image = pa.table({"image": [os.urandom(100_000) for _ in range(rows)]})
    pq.write_table(
        image, tmp_path / "a.parquet", row_group_size=rows, write_batch_size=1, data_page_size=1, use_dictionary=False
    )
    del image
    table = list_source(str(tmp_path)).table
    pool = pa.default_memory_pool()
    pool.release_unused()
    before, most = pa.total_allocated_bytes(), 0
    for _, content, _ in read_items(table):
        assert content is not None
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < rows * 100_000 * 0.5


def test_rows_without_bytes_and_damaged_tables(tmp_path):
    values = [{"bytes": b"ok", "path": None}, {"bytes": None, "path": "elsewhere.jpg"}, None]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": pa.array(values, kind)}), path)
    table = list_source(str(path)).table
    empty = "its row holds no bytes"
    assert list(read_items(table)) == [(0, b"ok", ""), (1, None, empty), (2, None, empty)]
    pq.write_table(pa.table({"image": pa.array(values[:1], kind)}), path)
    assert [reason for _, _, reason in read_items(table)] == ["", *["its table ends before row 1"] * 2]
    pq.write_table(pa.table({"other": [1, 2, 3]}), path)
    assert all(content is None and "image" in reason for _, content, reason in read_items(table))
    path.write_bytes(path.read_bytes()[:-10])
    assert all(content is None and reason.startswith("it cannot be read (") for _, content, reason in read_items(table))


def test_cut_streams_cost_their_tail_only(tmp_path):
    write(tmp_path / "a.arrow", 30, "arrow")
    table = list_source(str(tmp_path)).table
    with (tmp_path / "a.arrow").open("r+b") as file:
        file.truncate((tmp_path / "a.arrow").stat().st_size - 150)
    items = list(read_items(table))
    assert [content for _, content, _ in items[:20]] == [b"a %d" % number for number in range(20)]
    assert all(content is None and reason.startswith("it cannot be read (") for _, content, reason in items[20:])


def test_damaged_row_group_leaves_the_others(tmp_path):
    write(tmp_path / "a.parquet", 30)
    table = list_source(str(tmp_path)).table
    column = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(1).column(0)
    with (tmp_path / "a.parquet").open("r+b") as file:
        file.seek(column.dictionary_page_offset or column.data_page_offset)
        file.write(b"\xff" * column.total_compressed_size)
    items = list(read_items(table))
    assert [number for number, content, _ in items if content is None] == list(range(10, 20))


def test_an_outage_is_no_damaged_image(put, memory, monkeypatch):
    location = memory(put(["a.jpg", "b.jpg"]))
    table = list_source(location).table

    def refuse(self, path):
        raise OSError("connection reset")

    monkeypatch.setattr(pafs.FSSpecHandler, "open_input_file", refuse)
    with pytest.raises(UnreachableError, match=r"memory://bucket/a.jpg cannot be read \(connection reset\)"):
        list(read_items(table))


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_faults_of_the_machine_stop_the_reading(put, monkeypatch, number):
    def fail(_):
        raise OSError(number, "broken")

    listing = list_source(str(put(["1.jpg"])))
    monkeypatch.setattr("transvae_platform.data.listing.reading.open_bytes", fail)
    with pytest.raises(UnreachableError, match="which is no fault of the image"):
        list(read_items(listing.table))


def test_question_marks_end_the_names_of_uris_only():
    assert is_parquet("/a/what?.parquet")
    assert not is_parquet("/a/b.parquet?.arrow")
    assert is_parquet("s3://a/b.parquet?region=x")
