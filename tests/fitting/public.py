"""The public data sets of scaling runs, read in place from beside the checkout; never copied into the project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_public_data = pytest.mark.skipif(
    not (DATA / "expected_values.json").exists(), reason="the public reference data are not on this machine"
)


def expected(name: str) -> dict[str, Any]:
    return json.loads((DATA / "expected_values.json").read_text())[name]
