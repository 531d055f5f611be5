"""The code in docs/data.md runs as it stands, but for the names that a reader fills in."""

import ast
import importlib
import re
from pathlib import Path

import numpy as np
import pytest

from transvae_platform.data.making import images as module
from transvae_platform.data.sets.samples import open_data

TEXT = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
RECIPES = re.findall(r"```python\n(.*?)```", TEXT[TEXT.index("## Reading shards without our code") :], re.DOTALL)


@pytest.fixture
def made(photos, section, make_set, monkeypatch):
    """(folder, its training images, their item numbers) of a data set of 256 x 256 in several shards."""
    monkeypatch.setattr(module, "SHARD_RECORDS", 3)
    data = section(photos(9), resolution=256, view={"kind": "centre", "enlarge": True}, holdout=0.2)
    folder, _ = make_set(data)
    train, _ = open_data(str(folder), folder, 10**9)
    ids = np.arange(len(train))
    return folder, train.read(ids), train.column(ids, "item")


def run(code: str, folder: Path) -> dict[str, object]:
    names: dict[str, object] = {"__name__": "__main__"}  # functions of a script travel to Ray's workers by value
    exec(compile(code.replace("runs/data/<fingerprint>", str(folder)), "docs/data.md", "exec"), names)
    return names


def recipe(word: str) -> str:
    (code,) = [code for code in RECIPES if f"import {word}" in code]
    return code


def test_pyarrow(made):
    folder, images, items = made
    code = recipe("json")
    assert "transvae" not in code
    names = run(code, folder)
    assert (names["images"] == images[:3]).all()
    assert names["batch"]["item"].to_pylist() == items[:3]


def test_pandas(made):
    folder, images, items = made
    code = recipe("pandas")
    assert "transvae" not in code
    names = run(code, folder)
    assert (names["image"] == images[0]).all()
    assert names["frame"]["item"].tolist() == items[:3]


@pytest.mark.slow
def test_ray_data(made):
    import ray

    folder, images, items = made
    code = recipe("ray")
    assert "transvae" not in code
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        rows = run(code, folder)["rows"]
    finally:
        ray.shutdown()
    assert [row["item"] for row in rows] == items
    assert np.allclose([row["brightness"] for row in rows], images.mean(axis=(1, 2, 3)))


def test_every_name_that_the_documentation_imports_is_there():
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    imported = [
        (node.module, name.name)
        for block in blocks for node in ast.walk(ast.parse(block)) if isinstance(node, ast.ImportFrom)
        for name in node.names
    ]  # fmt: skip
    assert ("transvae_platform.data.stream.latents", "LatentStream") in imported
    for where, name in imported:
        assert hasattr(importlib.import_module(str(where)), name)
