"""Parquet and Arrow files, also as `datasets` writes them: columns found by type and name, rows found by number."""

import json
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transvae_platform.data.listing import list_source
from transvae_platform.data.listing.reading import read_items
from transvae_platform.errors import SpecError

IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
CLASSES = ("cat", "dog", "łoś")


def images(count, start=0):
    values = [{"bytes": b"image %d" % number, "path": None} for number in range(start, start + count)]
    return pa.array(values, IMAGE)


def table(columns, features=None):
    """A table with the schema metadata of `datasets` if there are features."""
    made = pa.table(columns)
    if features is None:
        return made
    return made.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}, "fingerprint": "f"})}
    )


FEATURES = {
    "image": {"_type": "Image"},
    "label": {"names": list(CLASSES), "_type": "ClassLabel"},
    "text": {"dtype": "string", "_type": "Value"},
}


def labelled(count, start=0):
    labels = [number % 3 - 1 for number in range(count)]
    return table({"image": images(count, start), "label": labels, "text": [f"t{n}" for n in range(count)]}, FEATURES)


def arrow(made, *, stream, rows=2):
    sink = pa.BufferOutputStream()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, made.schema) as writer:
        writer.write_table(made, max_chunksize=rows)
    return sink.getvalue().to_pybytes()


def parquet(made, **options):
    sink = pa.BufferOutputStream()
    pq.write_table(made, sink, **options)
    return sink.getvalue().to_pybytes()


def saved(made, split, files=2, **changes):
    """The files of one data set in the layout of `save_to_disk`."""
    size = -(-len(made) // files)
    names = [f"data-{number:05d}-of-{files:05d}.arrow" for number in range(files)]
    parts = {name: arrow(made.slice(index * size, size), stream=True) for index, name in enumerate(names)}
    state = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": "0123456789abcdef",
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
        **changes,
    }
    info = {"citation": "", "description": "", "features": FEATURES, "homepage": "", "license": ""}
    return {**parts, "state.json": json.dumps(state).encode(), "dataset_info.json": json.dumps(info).encode()}


def below(folder, files):
    return {f"{folder}/{name}": content for name, content in files.items()}


@pytest.mark.parametrize("store", [False, True])
def test_hub_folder_of_parquet_files(put, check, rows, memory, store):
    root = put(
        {
            "data/train-00000-of-00002.parquet": parquet(labelled(5), row_group_size=2),
            "data/train-00001-of-00002.parquet": parquet(labelled(2, start=5)),
            "data/validation-00000-of-00001.parquet": parquet(labelled(1, start=7)),
            "README.md": b"",
        }
    )
    listing = list_source(memory(root) if store else str(root))
    assert (listing.layout, listing.classes) == ("parquet", CLASSES)
    assert rows(listing, "name", "row", "split", "label", "caption")[4:] == [
        ("data/train-00000-of-00002.parquet/000004", 4, "train", 0, "t4"),
        ("data/train-00001-of-00002.parquet/000000", 0, "train", None, "t0"),
        ("data/train-00001-of-00002.parquet/000001", 1, "train", 0, "t1"),
        ("data/validation-00000-of-00001.parquet/000000", 0, "validation", None, "t0"),
    ]
    assert set(listing.table["column"].to_pylist()) == {"image.bytes"}
    assert list(check(listing).values()) == [b"image %d" % number for number in range(8)]


@pytest.mark.parametrize("store", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_arrow_files_of_both_formats(put, check, rows, memory, store, stream):
    root = put({"x-train.arrow": arrow(labelled(5), stream=stream), "empty.arrow": arrow(labelled(0), stream=stream)})
    listing = list_source(memory(root) if store else str(root))
    assert rows(listing, "row", "split", "label", "caption")[3:] == [(3, "train", None, "t3"), (4, "train", 0, "t4")]
    assert list(check(listing).values()) == [b"image %d" % number for number in range(5)]


@pytest.mark.parametrize("store", [False, True])
def test_saved_data_sets(put, check, rows, memory, store):
    root = put(saved(labelled(5), "train") | {"cache-0123456789abcdef.arrow": b"left over"})
    listing = list_source(memory(root) if store else str(root))
    assert (listing.layout, listing.classes) == ("huggingface", CLASSES)
    assert rows(listing, "name", "split", "label")[2:4] == [
        ("data-00000-of-00002.arrow/000002", "train", 1),
        ("data-00001-of-00002.arrow/000000", "train", None),
    ]
    assert list(check(listing).values()) == [b"image %d" % number for number in range(5)]


def test_saved_data_sets_with_splits(put, check, rows):
    parts = below("train", saved(labelled(3), "train", 1)) | below("test", saved(labelled(2, 3), "test", 1))
    parts |= below("other", saved(labelled(1), "other", 1))
    root = put(parts | {"dataset_dict.json": b'{"splits": ["train", "test"]}'})
    listing = list_source(str(root))
    assert rows(listing, "name", "split") == [
        ("test/data-00000-of-00001.arrow/000000", "validation"),
        ("test/data-00000-of-00001.arrow/000001", "validation"),
        *((f"train/data-00000-of-00001.arrow/00000{row}", "train") for row in range(3)),
    ]
    check(listing)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_data_files": [{"filename": "data-00000-of-00002.arrow"}] * 2}, r"names data-00000-of-00002.arrow twice"),
        ({"_data_files": [{"filename": "./data-00000-of-00002.arrow"}] * 2}, r"names data-00000-of-00002.arrow twice"),
        (
            {"_data_files": [{"filename": "gone.arrow"}]},
            r"state.json names gone.arrow but it is missing - save the data",
        ),
        ({"_indices_data_files": [{"filename": "indices.arrow"}]}, r"state.json selects rows of its files"),
        ({"_data_files": None}, r"state.json is damaged - save the data set again"),
    ],
)
def test_saved_data_sets_that_cannot_serve(put, changes, message):
    with pytest.raises(SpecError, match=message):
        list_source(str(put(saved(labelled(3), None, **changes))))


def test_saved_splits_without_their_files(put):
    with pytest.raises(SpecError, match=r"has no train/state.json - save the data set again"):
        list_source(str(put({"dataset_dict.json": b'{"splits": ["train"]}'})), "huggingface")


@pytest.mark.parametrize(
    ("columns", "classes", "labels", "captions"),
    [
        ({"jpg": [b"a", b"b"], "cls": pa.array([3, 0], pa.int16())}, ("0", "1", "2", "3"), [3, 0], [None, None]),
        ({"jpg": pa.array([b"a", b"b"], pa.large_binary()), "label": ["x", "y"]}, ("x", "y"), [0, 1], [None, None]),
        ({"jpg": [b"a", b"b"], "label": pa.array(["y", None]).dictionary_encode()}, ("y",), [0, None], [None, None]),
        ({"jpg": [b"a", b"b"], "labels": [-1, -1]}, (), [None, None], [None, None]),
        ({"my.jpg": images(2), "captions": [["1st", "2nd"], ["3rd"]]}, (), [None, None], ["1st", "3rd"]),
        ({"jpg": images(2), "caption": [[], ["3rd"]]}, (), [None, None], [None, "3rd"]),
        ({"jpg": images(2), "captions": pa.array([None, ["3rd"]]), "text": [1, 2]}, (), [None, None], [None, "3rd"]),
        ({"jpg": images(2), "text": pa.array([None, "long"], pa.large_string())}, (), [None, None], [None, "long"]),
        ({"jpg": images(2), "text": pa.array(["a", None]).dictionary_encode()}, (), [None, None], ["a", None]),
        ({"jpg": images(2), "text": pa.nulls(2)}, (), [None, None], [None, None]),
        ({"jpg": images(2), "label": pa.array([2, None], pa.float16())}, ("0", "1", "2"), [2, None], [None, None]),
    ],
)
@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_columns_are_found(put, check, rows, columns, classes, labels, captions, suffix):
    made = table(columns)
    content = parquet(made) if suffix == "parquet" else arrow(made, stream=True, rows=1)
    listing = list_source(str(put({f"a.{suffix}": content})))
    assert listing.classes == classes
    assert rows(listing, "label", "caption") == list(zip(labels, captions, strict=True))
    check(listing)


def test_features_tell_images_from_other_media(put, check, rows):
    features = {"sound": {"_type": "Audio"}, "image": {"_type": "Image"}, "raw": {"_type": "Value", "dtype": "binary"}}
    features["kind"] = {"_type": "ClassLabel", "names": ["a", "b"]}
    made = table({"sound": images(1), "image": images(1), "raw": [b""], "kind": [1], "cls": [7]}, features)
    listing = list_source(str(put({"a.parquet": parquet(made)})))
    assert rows(listing, "column", "label") == [("image.bytes", 1)]
    assert listing.classes == ("a", "b")


def not_utf8():
    """A string column that no Python can read; Parquet keeps it as it is."""
    return pa.Array.from_buffers(pa.string(), 1, pa.array([b"a\xff"]).buffers())


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            [{"a": [b""], "b": [b""]}],
            r"0.parquet has several columns that could be the image \(a, b\) - keep one of them",
        ),
        ([{"a": [b""], "text": ["x"], "caption": ["y"]}], r"could be the caption \(text, caption\) - keep one of them"),
        ([{"a": [b""], "cls": [1], "class": [1]}], r"could be the label \(cls, class\) - keep one of them"),
        ([{"path": ["x.jpg"]}], r"0.parquet has no image column \(path\) - images are expected as encoded bytes"),
        ([{"a": [b""], "label": [2_000_000]}], r"has the label 2000000, which is no class number"),
        ([{"a": [b""], "label": [1]}, {"a": [b""], "label": ["x"]}], r"has numbers as labels in some files and words"),
        ([{"a": []}], r"holds no images"),
        ([{"a": [b""], "text": [3]}], r"has captions that are no strings \(text of type int64\) - cast or rename"),
        ([{"a": [b""], "label": pa.array([0.5], pa.float16())}], r"has the label 0.5, which is no class"),
        (
            [{"a": [b""], "label": pa.array([2**63], pa.uint64())}],
            r"0.parquet cannot be read \(Integer value ",
        ),
        ([{"a": [b""], "label": not_utf8()}], r"0.parquet cannot be read \(.*Invalid UTF8 "),
        ([{"a": [b""], "text": not_utf8()}], r"0.parquet cannot be read \(.*Invalid UTF8 "),
        ([{"a\nb": [b""], "c": [b""]}], r"could be the image \(a\\nb, c\) - keep one of them"),
    ],
)
def test_tables_that_cannot_serve(put, files, message):
    tables = [pa.table({name: v or pa.array([], pa.binary()) for name, v in file.items()}) for file in files]
    root = put({f"{number}.parquet": parquet(made) for number, made in enumerate(tables)})
    with pytest.raises(SpecError, match=message):
        list_source(str(root))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.string_view(), ["a", None]), (pa.list_(pa.string(), 2), [["a", "b"], None]),
        (pa.large_list(pa.large_string()), [["a", "b"], []]), (pa.list_view(pa.string()), [["a", "b"], [None]]),
        (pa.list_(pa.string_view()), [["a"], None]),
    ],
    ids=str,
)  # fmt: skip
def test_captions_of_any_type_of_strings_are_read(put, rows, kind, values):
    made = pa.table({"image": images(2), "captions": pa.array(values, kind)})
    assert rows(list_source(str(put({"a.arrow": arrow(made, stream=False)}))), "caption") == [("a",), (None,)]


def test_two_columns_of_one_name_are_named(put):
    for name, role in (("label", "label"), ("text", "caption")):
        made = pa.Table.from_arrays([pa.array([b""]), *[pa.array(["x"])] * 2], names=["image", name, name])
        with pytest.raises(SpecError, match=rf"several columns that could be the {role} \({name}, {name}\) - keep one"):
            list_source(str(put({"a.arrow": arrow(made, stream=True)}, name)))


@pytest.mark.parametrize("names", [5, "abc", [1, 2], {"a": 1}])
def test_features_that_name_no_classes_are_refused(put, names):
    made = table({"image": images(1), "label": [0]}, {"label": {"names": names, "_type": "ClassLabel"}})
    with pytest.raises(
        SpecError, match=r"a.parquet: the features of 'label' name no classes - save the data set again"
    ):
        list_source(str(put({"a.parquet": parquet(made)})))


@pytest.mark.parametrize("features", [[], 3, {"image": 7}, {"label": {"_type": {}}}])
def test_features_of_another_form_say_nothing(put, rows, features):
    made = table({"image": images(1), "label": [0]}, features)
    assert rows(list_source(str(put({"a.parquet": parquet(made)}))), "label") == [(0,)]


def test_broken_tables_of_every_kind_are_listed_together(put):
    bad = {
        "a": {"text": [3]}, "b": {"label": pa.array([0.5], pa.float16())}, "c": {"label": not_utf8()},
        "d": {"label": pa.array([2**63], pa.uint64())},
    }  # fmt: skip
    files = {f"{name}.parquet": parquet(pa.table({"image": images(1), **columns})) for name, columns in bad.items()}
    listing = list_source(str(put({**files, "z.parquet": parquet(table({"image": images(1)}))})), skip_broken=True)
    assert [wrong.partition(".parquet")[0][-1] for wrong in listing.broken] == list(bad)
    assert listing.table.num_rows == 1


def test_names_in_saved_data_sets_are_printable(put):
    state = json.dumps({"_data_files": [{"filename": "\ud800\x1b[2J\n.arrow"}]}).encode()
    with pytest.raises(SpecError, match=r"state.json names .*x1b.* but it is missing") as caught:
        list_source(str(put({"state.json": state, "a.arrow": b""})), "huggingface")
    splits = json.dumps({"splits": ["\ud800\x1b\n"]}).encode()
    with pytest.raises(SpecError, match=r"has no .*x1b.*/state.json") as other:
        list_source(str(put({"dataset_dict.json": splits}, "two")), "huggingface")
    for error in (caught, other):
        assert str(error.value).encode()
        assert not set("\x1b\n") & set(str(error.value))


def test_labels_beyond_the_classes_and_other_classes_are_refused(put):
    made = table({"image": images(1), "label": [3]}, FEATURES)
    with pytest.raises(SpecError, match=r"has the label 3 of 3 classes"):
        list_source(str(put({"a.parquet": parquet(made)})))
    other = table({"image": images(1), "label": [0]}, {**FEATURES, "label": {"names": ["z"], "_type": "ClassLabel"}})
    with pytest.raises(SpecError, match=r"has files with different class names - give one of the sets"):
        list_source(str(put({"a.parquet": parquet(labelled(1)), "b.parquet": parquet(other)}, "two")))


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
@pytest.mark.parametrize("content", [b"", b"PAR1?", b"ARROW1\0\0", b"\xff" * 100, b"x" * 5000])
def test_damaged_tables_are_named(put, name, content):
    with pytest.raises(SpecError, match=rf"{name} cannot be read \(.+\) - mend or remove it"):
        list_source(str(put({name: content})))


def test_a_million_rows_are_listed_in_seconds(tmp_path, rows):
    made = pa.table({"image": pa.repeat(b"tiny", 1_000_000), "label": pa.array(range(1_000_000)).cast(pa.int32())})
    made = made.set_column(1, "label", pa.array([number % 1000 for number in range(1_000_000)]))
    pq.write_table(made, tmp_path / "a.parquet", row_group_size=10_000)
    start = time.process_time()
    before = pa.total_allocated_bytes()
    listing = list_source(str(tmp_path))
    assert time.process_time() - start < 10
    assert pa.total_allocated_bytes() - before < 400_000_000
    assert listing.table["name"][999_999].as_py() == "a.parquet/999999"
    positions = [100_000, 100_001, 999_999]
    assert [content for _, content, _ in read_items(listing.table.take(positions))] == [b"tiny"] * 3


def test_row_numbers_beyond_the_padding_still_sort(tmp_path):
    pq.write_table(pa.table({"image": pa.repeat(b"", 1_000_001)}), tmp_path / "a.parquet")
    table = list_source(str(tmp_path)).table
    assert table["name"][9].as_py() == "a.parquet/0000009"
    assert table["row"].to_pylist()[::100_000] == list(range(0, 1_000_001, 100_000))


@pytest.mark.parametrize("dictionary", [False, True])
def test_whole_floats_are_labels_and_fractions_are_refused(tmp_path, rows, dictionary):
    def save(*labels):
        column = pa.array(labels, pa.float64())
        columns = {"image": images(len(labels)), "label": column.dictionary_encode() if dictionary else column}
        pq.write_table(pa.table(columns), tmp_path / "train.parquet")
        return str(tmp_path)

    assert rows(list_source(save(3.0, None, float("nan"), 0.0)), "label") == [(3,), (None,), (None,), (0,)]
    with pytest.raises(SpecError, match=r"train.parquet has the label 0.5, which is no class"):
        list_source(save(1.0, 0.5))


@pytest.mark.parametrize("labels", [[True], [[1]], pa.array([1]).cast(pa.decimal128(20, 0))])
def test_labels_of_another_type_are_named(tmp_path, labels):
    pq.write_table(pa.table({"image": [b"x"], "label": labels}), tmp_path / "a.parquet")
    with pytest.raises(SpecError, match=r"has labels that are neither numbers nor strings \(label of type"):
        list_source(str(tmp_path))


def test_labels_that_only_folders_tell_are_not_dropped(put, rows):
    source = put({f"split=train/label={number}/0.parquet": parquet(table({"image": images(2)})) for number in (0, 1)})
    with pytest.raises(SpecError, match=r"label of split=train/label=0/0.parquet/0+ is told by the name of its folder"):
        list_source(str(source))
    for number in (0, 1):
        made = table({"image": images(2), "label": [number] * 2})
        (source / f"split=train/label={number}/0.parquet").write_bytes(parquet(made))
    assert rows(list_source(str(source)), "label") == [(0,), (0,), (1,), (1,)]
