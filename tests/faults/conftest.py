"""The fixtures of the fault tests: toy studies that are really killed, trainings in this process, a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.faults.toys import _played, fresh, made, study
from tests.training.conftest import home, records, samples, train, trial

__all__ = ["_played", "fresh", "home", "made", "records", "samples", "study", "train", "trial"]
"""Fixtures that are made elsewhere."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real Ray cluster of a head and two worker nodes (`nodes.Bench`)."""
    from tests.faults import nodes  # Ray takes a second to import, which only its tests pay

    with nodes.bench(tmp_path_factory.mktemp("home")) as cluster:
        yield cluster
