"""`transvae data ingest --captions | --edits`: the words of a source that does not bring them as columns of its own."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.data.listing.test_edits import pairs

from transvae_platform.data.sets.catalogue import find_data_set
from transvae_platform.data.sets.samples import open_data
from transvae_platform.study.load import read_data


def words(home, name):
    """Captions and sources of the training samples."""
    train, _ = open_data(find_data_set(home, name).location, home / "cache", 10**9)
    return train.column(np.arange(len(train)), "caption"), train.sources().tolist()


@pytest.fixture
def captions(images, tmp_path):
    names = sorted(path.name for path in images.rglob("*.*") if path.suffix != ".heic")
    lines = [json.dumps({"file_name": name, "caption": f"this is {name}"}) for name in names]
    path = tmp_path / "captions.jsonl"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "pairs" / "train.parquet"
    path.parent.mkdir()
    pq.write_table(pairs(3), path)
    return path.parent


def test_captions_of_a_file(data, images, captions, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ("ingest", images, "--name", "said", "--resolution", "64", "--captions", captions.name)
    answer = data(*asked)
    assert answer.code == 0, answer.err
    found, sources = words(tmp_path / "home", "said")
    assert found
    assert all(caption.startswith("this is ") for caption in found)
    assert set(sources) == {-1}
    assert "nowhere.jsonl cannot be read" in data(*asked[:-1], "nowhere.jsonl").err
    captions.write_text(captions.read_text().replace("this is", "there is"))
    assert "--name: 'said' stands for" in data(*asked).err  # other words, another data set


@pytest.mark.parametrize(
    ("columns", "said"),
    [("original_image,edited_image,edit_prompt,original_prompt", 6), ("original_image,edited_image,edit_prompt", 3)],
)
def test_edits_of_a_table(data, table, tmp_path, columns, said):
    answer = data("ingest", table, "--name", "edits", "--resolution", "32", "--holdout", "0", "--edits", columns)
    assert answer.code == 0, answer.err
    captions, sources = words(tmp_path / "home", "edits")
    assert sum(caption is not None for caption in captions) == said
    assert sum(source >= 0 for source in sources) == 3


def test_the_options_make_the_data_set_of_the_keys(data, table, tmp_path):
    """A study that names the same columns finds what the command made."""
    from transvae_platform.cluster.sources import find_source

    columns = {"source": "original_image", "edit": "edited_image", "instruction": "edit_prompt", "caption": None}
    names = ",".join(name for name in columns.values() if name)
    options = ("--resolution", "32", "--holdout", "0.34", "--edits", names)
    assert data("ingest", table, "--name", "edits", *options).code == 0
    section = read_data({"source": "folder", "path": str(table), "resolution": 32, "holdout": 0.34, "edits": columns})
    source = find_source(section, tmp_path / "home")
    assert source.fingerprint == find_data_set(tmp_path / "home", "edits").manifest.fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--edits", "before,after"], "--edits: 'before,after' names 2 columns - give SOURCE,EDIT,INSTRUCTION"),
        (["--edits", "before,,how"], "--edits: 'before,,how' names 3 columns"),
        (["--edits", "a,a,how"], "source and edit are the same column 'a'"),
        (["--edits", "a,b,how", "--captions", "c.jsonl"], "keep one"),
        ([], "name both in data.edits (--edits)"),
        (["--edits", "before,after,how"], "has no column 'before'"),
    ],
)
def test_impossible_words(data, table, starts, options, message):
    answer = data("ingest", table, "--name", "mine", "--resolution", "32", *options)
    assert answer.code == 2
    assert message in answer.err
    assert starts == []
