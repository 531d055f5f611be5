"""A home that was moved or copied takes the addresses in its own MLflow store along.

Protocol
1. A home's own store is `<home>/mlflow.db`, and the artifacts of its studies lie in `<home>/mlartifacts/<study>`.
   MLflow keeps their addresses with the whole path: of experiments, runs, models and versions.
2. Whoever connects to the store compares the experiments' addresses with where the home is. Another place, of whose
   studies artifacts lie here, is where the home was. It is not if it is this home under another name (a second mount).
3. Then all addresses below it are rewritten in one transaction: a kill, or a second process, finds all or none done.
   Nothing is written to the old place any more, which may belong to another home by now.
4. While a process that may be alive holds a study of the home, nothing is rewritten: it may know the home by the other
   path, on another machine.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from transvae_platform.errors import UnreachableError
from transvae_platform.study.folders import artifacts_of
from transvae_platform.study.lease import read_holder

ADDRESSES = {
    "experiments": ["artifact_location"], "runs": ["artifact_uri"], "logged_models": ["artifact_location"],
    "model_versions": ["source", "storage_location"],
}  # fmt: skip
"""Columns of MLflow's tables that hold them (MLflow 3.17: every column of a store was searched for its home)."""


def earlier_homes(home: Path) -> list[str]:
    """Where the home was when its store was used, if not here; nothing of a store that cannot be read."""
    return [str(_path(root).parent) for root in _earlier_roots(home)]


def follow_move(home: Path) -> None:
    """Rewrite the addresses in the own store of a home that was moved; see the protocol above.

    Raises:
        UnreachableError: a study of the home may be running at its other place, or the store cannot be written.
    """
    for root in _earlier_roots(home):
        earlier = _path(root).parent
        _refuse_running(home, earlier)
        try:
            with closing(sqlite3.connect(home.resolve() / "mlflow.db")) as store, store:
                _rewrite(store, f"{root}/", f"{artifacts_of(home)}/")
        except sqlite3.Error as error:
            raise UnreachableError(
                f"tracking: {home} was moved from {earlier}, and its store cannot be rewritten ({error}) - make "
                f"{home / 'mlflow.db'} writable, or move the home back"
            ) from None


def _earlier_roots(home: Path) -> list[str]:
    """The addresses in place of `artifacts_of(home)` (protocol 2)."""
    try:
        with closing(sqlite3.connect(f"{(home.resolve() / 'mlflow.db').as_uri()}?mode=ro", uri=True)) as store:
            known = [str(row[0]).rpartition("/") for row in store.execute("SELECT artifact_location FROM experiments")]
    except sqlite3.Error:  # whoever connects to it is told why
        return []
    here = _path(artifacts_of(home))
    roots = {root for root, _, study in known if root.endswith(f"/{here.name}") and (here / study).is_dir()}
    return sorted(root for root in roots if not _is_same(_path(root), here))


def _rewrite(store: sqlite3.Connection, old: str, new: str) -> None:
    for table, columns in ADDRESSES.items():
        for column in columns:
            changed = f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?"
            store.execute(changed, (new, len(old) + 1, len(old), old))


def _refuse_running(home: Path, earlier: Path) -> None:
    for path in sorted(home.glob("studies/*/lease.json")):
        holder = read_holder(path.parent)
        if holder is not None and not holder.dead:
            raise UnreachableError(
                f"tracking: the store of {home} says that the home is {earlier}, and process {holder.pid} on "
                f"{holder.host} holds its study {path.parent.name} - use that path while the study runs; if it runs "
                f"no more, delete {path}"
            )


def _path(address: str) -> Path:
    return Path(url2pathname(urlsplit(address).path))


def _is_same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)  # noqa: PTH121 - as paths, both may be links
    except OSError:
        return False
