"""Tables with two images in a row: an edit and its source, listed as two images that know each other."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.training.conftest import SPEC

from transvae_platform.data.listing import LISTING_SCHEMA, list_source
from transvae_platform.data.listing.reading import read_items
from transvae_platform.data.making.ingest import ingest
from transvae_platform.data.making.work import run_locally
from transvae_platform.data.sets.samples import open_data
from transvae_platform.errors import SpecError
from transvae_platform.study.data_spec import EditColumns
from transvae_platform.study.spec import StudySpec

IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
COLUMNS = EditColumns()


def encoded(level):
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (level, 0, 0)).save(file, "png")
    return file.getvalue()


def pairs(count, first=0, **changes):
    """Rows as InstructPix2Pix's set has them: the source is of one level of red, its edit of the next."""
    levels = range(first, first + 2 * count, 2)
    columns = {
        "original_prompt": [f"level {level}" for level in levels],
        "original_image": pa.array([{"bytes": encoded(level), "path": None} for level in levels], IMAGE),
        "edit_prompt": [f"make it {level + 1}" for level in levels],
        "edited_prompt": [f"level {level + 1}" for level in levels],
        "edited_image": pa.array([{"bytes": encoded(level + 1), "path": None} for level in levels], IMAGE),
    }
    return pa.table({**columns, **changes})


def arrow(table):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue().to_pybytes()


def parquet(table):
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=2)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(("suffix", "write"), [("parquet", parquet), ("arrow", arrow)])
def test_every_row_is_an_edit_and_its_source(put, suffix, write):
    files = {f"train-0.{suffix}": write(pairs(3)), f"validation-0.{suffix}": write(pairs(2, first=100))}
    table = list_source(str(put(files)), edits=COLUMNS).table
    assert table.schema.names == [*LISTING_SCHEMA.names, "source"]
    names, sources = table["name"].to_pylist(), table["source"].to_pylist()
    assert names == sorted(names)
    assert len(names) == 10
    contents = [content for _, content, _ in read_items(table)]
    for row, (caption, source) in enumerate(zip(table["caption"].to_pylist(), sources, strict=True)):
        level = int(caption.rpartition(" ")[2])
        assert contents[row] == encoded(level)
        assert (source is not None) == caption.startswith("make it")
        if source is not None:
            assert contents[source] == encoded(level - 1)
            assert table["split"][source] == table["split"][row]


def test_a_file_is_opened_once_for_each_of_its_columns(put, monkeypatch):
    """Images of two columns in turn would open it for every image, and read from its start each time."""
    from transvae_platform.data.listing import reading

    table, opened = list_source(str(put({"a.parquet": parquet(pairs(5))})), edits=COLUMNS).table, []
    open_file = reading.open_file
    monkeypatch.setattr(reading, "open_file", lambda path: opened.append(path) or open_file(path))
    assert len(list(read_items(table))) == 10
    assert len(opened) == 2


def test_columns_of_other_names_and_sources_without_captions(put):
    table = pairs(2).rename_columns(["c", "before", "how", "d", "after"])
    columns = EditColumns(source="before", edit="after", instruction="how", caption=None)
    found = list_source(str(put({"a.parquet": parquet(table)})), edits=columns).table
    assert found["caption"].to_pylist() == ["make it 1", "make it 3", None, None]
    assert found["source"].to_pylist() == [2, 3, None, None]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"source": "input"}, r"a.parquet has no column 'input' of encoded images, which data.edits.source names \(o"),
        ({"edit": "edited_prompt"}, "no column 'edited_prompt' of encoded images, which data.edits.edit names"),
        ({"instruction": "edited_image"}, "no column 'edited_image' of strings, which data.edits.instruction names"),
        ({"caption": "input_prompt"}, "no column 'input_prompt' of strings, which data.edits.caption names"),
    ],
)
def test_a_column_that_is_none_is_named_with_its_key(put, changes, told):
    with pytest.raises(SpecError, match=told):
        list_source(str(put({"a.parquet": parquet(pairs(2))})), edits=EditColumns(**changes))


def test_without_the_key_two_images_are_refused_with_it_and_files_have_no_columns(put):
    folder = put({"a.parquet": parquet(pairs(2))})
    with pytest.raises(SpecError, match=r"several columns that could be the image .* name both in data.edits"):
        list_source(str(folder))
    with pytest.raises(SpecError, match=r"data.edits: .* has the layout folder, not one of parquet, huggingface"):
        list_source(str(put(["a.png"], "files")), edits=COLUMNS)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"captions": "x.jsonl"}, "keep one"),
        ({"layout": "webdataset"}, "`edits` belongs to `source: folder` with tables"),
        ({"source": "bundled", "path": None}, "`edits` belongs to `source: folder` with tables"),
        ({"edits": {"edit": "original_image"}}, "source and edit are the same column 'original_image'"),
    ],
)
def test_what_does_not_go_with_edits_is_refused(changes, told):
    data = {"source": "folder", "path": "x", "resolution": 32, "edits": {}, **changes}
    with pytest.raises(ValueError, match=told):
        StudySpec.model_validate({**SPEC, "data": data})


def test_samples_know_their_sources_and_stay_on_one_side(put, tmp_path):
    data = {"source": "folder", "path": "x", "resolution": 32, "edits": {}, "holdout": 0.25}
    section = StudySpec.model_validate({**SPEC, "data": data}).data
    listing = list_source(str(put({"a.parquet": parquet(pairs(8))})), edits=section.edits)
    made = ingest(listing, section, tmp_path, run_locally)
    for samples, edits in zip(
        open_data(str(tmp_path / "data" / made.fingerprint), tmp_path, 10**9), (6, 2), strict=True
    ):
        sources, captions = samples.sources(), samples.column(np.arange(len(samples)), "caption")
        assert (sources >= 0).sum() == edits == len(samples) / 2
        for caption, source in zip(captions, sources.tolist(), strict=True):
            if source >= 0:
                level = int(caption.rpartition(" ")[2])
                assert caption == f"make it {level}"
                assert captions[source] == f"level {level - 1}"
