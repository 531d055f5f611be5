"""Data sets that `datasets` saved with `save_to_disk`: one, or one per split below a `dataset_dict.json`."""

from __future__ import annotations

import json
from functools import partial
from posixpath import normpath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from transvae_platform.data.listing.broken import list_each
from transvae_platform.data.listing.detect import TABLE_SUFFIXES
from transvae_platform.data.listing.schema import Listing, split_in, with_suffix
from transvae_platform.data.listing.tables import list_rows
from transvae_platform.data.sets.stores import as_utf8, open_file, printable, reaching
from transvae_platform.errors import SpecError
from transvae_platform.study.data_spec import EditColumns


def list_saved(location: str, files: pa.Table, edits: EditColumns | None = None) -> Listing:
    """The rows of the Arrow files that each `state.json` names; files beside them, such as caches, are left out.

    Broken is a `state.json` that is missing, damaged or selects rows, as old versions of `datasets` wrote it, and a
    file that is named twice, is missing or cannot be read.

    Raises:
        SpecError: `dataset_dict.json` is damaged, or no file holds rows.
    """
    marks = {name: path for name, path in _columns(files) if name.endswith(".json")}
    if "dataset_dict.json" in marks:
        splits = _load(marks["dataset_dict.json"], "splits")
        names = [as_utf8(str(split)) for split in splits["splits"]]
        folders = [{"folder": f"{name}/", "split": name} for name in names]
    else:
        folders = [{"folder": "", "split": ""}]
    named, broken = list_each(partial(_files_of, location, marks), folders)
    tables = {name for name, _ in _columns(with_suffix(files, TABLE_SUFFIXES))}
    wanted: dict[str, str | None] = {}
    for mark, name, split in (file for of_split in named for file in of_split):
        if name in wanted or name not in tables:
            trouble = "twice" if name in wanted else "but it is missing"
            broken += (
                f"{printable(location)}: {printable(mark)} names {printable(name)} {trouble} - save the data set again",
            )
        else:
            wanted[name] = split
    chosen = files.filter(pc.is_in(files["name"], value_set=pa.array(list(wanted), pa.string())))
    splits_of = pa.array([wanted[name] for name in chosen["name"].to_pylist()], pa.string())
    return list_rows(location, "huggingface", chosen.append_column("split", splits_of), broken, edits)


def _files_of(location: str, marks: dict[str, str], folder: str, split: str) -> list[tuple[str, str, str | None]]:
    """(the `state.json`, a file that it names, the split of its rows) of one folder."""
    mark = f"{folder}state.json"
    if mark not in marks:
        raise SpecError(f"data.path: {printable(location)} has no {printable(mark)} - save the data set again")
    state = _load(marks[mark], "_data_files")
    if state.get("_indices_data_files"):
        raise SpecError(
            f"data.path: {printable(location)}: {printable(mark)} selects rows of its files - save the data set again "
            "with a newer `datasets`, which writes the selected rows only"
        )
    entries = [entry.get("filename") if isinstance(entry, dict) else entry for entry in state["_data_files"]]
    side = split_in(str(split or state.get("_split") or ""))
    return [(mark, normpath(folder + as_utf8(str(entry))), side) for entry in entries]


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
