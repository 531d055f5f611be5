"""docs/evaluation.md: what it shows as Python runs as it stands."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "evaluation.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_snippets_run(snippet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(snippet, str(PAGE), "exec"), names)
    if "reconstruction" in names:
        assert names["reconstruction"].shape == names["x"].shape
    elif "image" in names:
        assert names["image"].shape == names["x"].shape
    else:
        assert names["pixels"].shape == (1, 32, 32, 3)


def test_every_way_of_use_is_shown():
    text = "".join(SNIPPETS)
    assert all(used in text for used in ("open_tokenizer", "latent_dist", "decode_to_images"))
