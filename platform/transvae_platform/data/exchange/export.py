"""What exports share: a folder belongs to one export, and a file in it is whole or not there.

Protocol
1. An export holds a lock on its folder; a second one waits, and finds the files of the first.
2. `export.json` is written first and says what is exported and how. A folder that says otherwise, or that holds files
   of this kind but no `export.json`, is refused: a reader would mix the two.
3. Each file is written under a temporary name, flushed and renamed. An export that was killed makes what is missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from transvae_platform.data.making.lock import locked
from transvae_platform.data.making.work import Function, Listener, Mapper, Work, finish, is_full
from transvae_platform.data.sets.manifest import Manifest
from transvae_platform.data.sets.remote import CACHE_BYTES, default_cache
from transvae_platform.data.sets.samples import SampleSet, manifest_at, open_data
from transvae_platform.errors import UnreachableError, UserError
from transvae_platform.files import whole_file

LOCK = ".export.lock"
ABOUT = "export.json"


def export(
    folder: Path, about: Mapping[str, Any], function: Function, work: Sequence[Work], mapper: Mapper,
    listen: Listener | None,
) -> None:  # fmt: skip
    """Make the files of an export that are not there yet.

    Args:
        about: what decides the files' bytes, plain values; kept in `export.json`.
        work: one piece per file: `file` is its path, `items` how many samples go into it.
        listen: told how many samples of how many are done.

    Raises:
        UserError: the folder holds something else.
        UnreachableError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / LOCK):
            _claim(folder, about, {Path(piece["file"]).suffix for piece in work})
            finish(function, work, "file", mapper, listen)
            for path in folder.glob(".*.part-*"):  # of processes that were killed
                path.unlink()
    except OSError as error:
        what = error.strerror or error
        way_out = "free space or choose another folder" if is_full(error) else "mend that or choose another folder"
        raise UnreachableError(f"{folder}: {what} - {way_out}; done work is kept") from error


def read_data_set(location: str | Path, kind: str) -> Manifest:
    """The manifest of a data set of this kind (`images` or `latents`).

    Raises:
        UserError: there is none, or it is of the other kind.
        UnreachableError: it is on a store that does not answer.
    """
    manifest = manifest_at(str(location))
    if manifest.kind != kind:
        raise UserError(f"{location} holds {manifest.kind}, but {kind} are needed")
    return manifest


@lru_cache(maxsize=4)  # pieces of one export read the same data set
def open_split(location: str, split: str) -> SampleSet:
    """The samples of one split of a data set, in any process."""
    train, validation = open_data(location, default_cache(), CACHE_BYTES)
    return train if split == "train" else validation


def _claim(folder: Path, about: Mapping[str, Any], suffixes: set[str]) -> None:
    path, text = folder / ABOUT, json.dumps(dict(about), indent=1, sort_keys=True)
    if path.exists():
        if path.read_text() != text:
            raise UserError(f"{folder} holds another export, see its export.json - choose another folder")
        return
    if strangers := sorted(entry.name for entry in folder.iterdir() if entry.suffix in suffixes):
        raise UserError(f"{folder} holds {strangers[0]}, which is not of this export - choose an empty folder")
    with whole_file(path) as temporary:
        temporary.write_text(text)
