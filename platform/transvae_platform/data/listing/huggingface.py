"""Data sets that `datasets` saved with `save_to_disk`: one, or one per split below a `dataset_dict.json`."""

from __future__ import annotations

import json
from posixpath import normpath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from transvae_platform.data.listing.detect import TABLE_SUFFIXES
from transvae_platform.data.listing.schema import Listing, split_in, with_suffix
from transvae_platform.data.listing.tables import list_rows
from transvae_platform.data.sets.stores import open_file, printable, reaching
from transvae_platform.errors import SpecError


def list_saved(location: str, files: pa.Table) -> Listing:
    """The rows of the Arrow files that each `state.json` names; files beside them, such as caches, are left out.

    Raises:
        SpecError: `dataset_dict.json` or `state.json` is damaged, or names a file twice or one that is missing; the
            data set was saved as a selection of rows, as old versions of `datasets` did.
    """
    marks = {name: path for name, path in _columns(files) if name.endswith(".json")}
    tables = {name for name, _ in _columns(with_suffix(files, TABLE_SUFFIXES))}
    if "dataset_dict.json" in marks:
        splits = _load(marks["dataset_dict.json"], "splits")
        folders = [(f"{split}/", str(split)) for split in splits["splits"]]
    else:
        folders = [("", "")]
    wanted: dict[str, str | None] = {}
    for folder, split in folders:
        mark = f"{folder}state.json"
        if mark not in marks:
            raise SpecError(f"data.path: {printable(location)} has no {mark} - save the data set again")
        state = _load(marks[mark], "_data_files")
        if state.get("_indices_data_files"):
            raise SpecError(
                f"data.path: {printable(location)}: {mark} selects rows of its files - save the data set again with a "
                "newer `datasets`, which writes the selected rows only"
            )
        for entry in state["_data_files"]:
            name = normpath(folder + str(entry.get("filename") if isinstance(entry, dict) else entry))
            if name in wanted or name not in tables:
                trouble = "twice" if name in wanted else "but it is missing"
                raise SpecError(
                    f"data.path: {printable(location)}: {mark} names {name} {trouble} - save the data set again"
                )
            wanted[name] = split_in(str(split or state.get("_split") or ""))
    chosen = files.filter(pc.is_in(files["name"], value_set=pa.array(list(wanted), pa.string())))
    splits_of = pa.array([wanted[name] for name in chosen["name"].to_pylist()], pa.string())
    return list_rows(location, "huggingface", chosen.append_column("split", splits_of))


def _columns(files: pa.Table) -> list[tuple[str, str]]:
    return list(zip(files["name"].to_pylist(), files["path"].to_pylist(), strict=True))


def _load(path: str, key: str) -> dict[str, Any]:
    with reaching(path), open_file(path) as file:
        content = file.read()
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or not isinstance(values.get(key), list):
        raise SpecError(f"data.path: {printable(path)} is damaged - save the data set again")
    return values
