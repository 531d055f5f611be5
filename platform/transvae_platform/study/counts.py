"""Counted numbers of models, kept: counting takes seconds and torch, a look-up neither.

1. A count is a tuple of whole numbers under the hash of what was counted. It never changes for one version of the
   sources in `models/transvae`, of torch and of timm; the hash of all three is the name of a table.
2. There are two tables: `counted.json` beside this file, of the shipped studies (`make counts` writes it), which is
   read only while it is of this version; and one of the user's, in `~/.cache/transvae` (or `XDG_CACHE_HOME`), a line
   of JSON per count, to which whatever had to be counted is appended.
3. A line that cannot be read counts as absent. A folder that cannot be written costs time, nothing else.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import transvae
from transvae_platform.study.folders import user_cache
from transvae_platform.study.trial import stable_hash

SHIPPED = Path(__file__).with_name("counted.json")
COUNTING = ("torch", "timm")  # what else decides a count: torch's counter, timm's networks

Count = tuple[int, ...]


class Counts:
    """The tables of one version."""

    def __init__(self, folder: Path, version: str, shipped: Path = SHIPPED) -> None:
        self._own, self._version, self._shipped = folder / f"counts-{version}.jsonl", version, shipped
        self._asked: set[str] = set()

    def get(self, what: str, given: Any, count: Callable[[], Count]) -> Count:
        """A count from the tables, or counted now and kept.

        Args:
            what: which count; with `given`, JSON values, it says all that the count depends on within a version.
        """
        key = stable_hash([what, given])
        self._asked.add(key)
        if key not in self._known:
            self._known[key] = count()
            self._keep(key)
        return self._known[key]

    @cached_property
    def _known(self) -> dict[str, Count]:
        known: dict[str, Count] = {}
        with suppress(OSError, ValueError, KeyError, TypeError):
            shipped = json.loads(self._shipped.read_text())
            if shipped["version"] == self._version:
                known = {key: tuple(values) for key, values in shipped["counts"].items()}
        with suppress(OSError):
            for line in self._own.read_text(errors="replace").splitlines():
                with suppress(ValueError, TypeError):  # torn
                    key, *values = json.loads(line)
                    known[key] = tuple(map(int, values))
        return known

    def _keep(self, key: str) -> None:
        with suppress(OSError):
            self._own.parent.mkdir(parents=True, exist_ok=True)
            with self._own.open("a") as file:  # one short write: lines of two processes do not mix
                file.write(json.dumps([key, *self._known[key]]) + "\n")

    def ship(self) -> int:
        """Write what this object was asked for as the shipped table; returns how many counts that are."""
        rows = ",\n".join(f'"{key}": {json.dumps(self._known[key])}' for key in sorted(self._asked))
        self._shipped.write_text(f'{{"version": "{self._version}", "counts": {{\n{rows}\n}}}}\n')
        return len(self._asked)


def counting_version() -> str:
    """Of everything that decides a count: the sources of the models, torch, timm. Imports none of them."""
    digest = hashlib.sha256()
    root = Path(transvae.__path__[0])
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    for package in COUNTING:  # `2.13.0+cpu` and `2.13.0+cu128` count alike
        digest.update(f"{package} {importlib.metadata.version(package).partition('+')[0]}\0".encode())
    return digest.hexdigest()[:16]


@cache
def counts() -> Counts:
    """The tables of this user and this version."""
    return Counts(user_cache(), counting_version())
