"""The manifest of a checkpoint: the SHA-256 of every file, and what differs from it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from transvae_platform.errors import UserError

MANIFEST, STATE = "manifest.json", "state.json"
Hashes = dict[str, str]
"""SHA-256 by file, the path relative to the checkpoint's folder."""


def manifest_text(files: Mapping[str, str], folder: str = "") -> str:
    """The manifest as it is stored; `folder` is where on a store the files are, relative to the manifest."""
    return json.dumps({"folder": folder, "files": dict(sorted(files.items()))}, indent=1)


def read_manifest(text: str) -> tuple[str, Hashes]:
    """(folder, SHA-256 by file) of a manifest.

    Raises:
        ValueError: it is no manifest, lists no files, or names one outside of its folder.
        UserError: it is that of an earlier version's checkpoint.
    """
    values = json.loads(text)
    if isinstance(values, dict) and "state.pt" in values:
        raise UserError(
            "a checkpoint of an earlier version of this project, which this one does not read - continue the study "
            "with that version, or delete the trial's folder `checkpoints` to train it from the start"
        )
    if not isinstance(values, dict) or not isinstance(values.get("files"), dict) or not values["files"]:
        raise ValueError(f"{MANIFEST} lists no files")
    folder, files = str(values.get("folder", "")), values["files"]
    for name in (folder, *files):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{MANIFEST} names {name!r}, which lies outside of the checkpoint")
    return folder, files


def fault(folder: Path) -> str | None:
    """What is wrong with a checkpoint in a local folder, or None: reads every byte.

    Raises:
        UserError: it is that of an earlier version.
        OSError: a file is there and cannot be read, which says nothing of what is in it.
    """
    try:
        _, files = read_manifest((folder / MANIFEST).read_text())
        for name, expected in files.items():
            if sha256_of(folder / name) != expected:
                return f"{name} differs from its SHA-256"
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        if strangers := found - {*files, MANIFEST}:
            return f"{min(strangers)} is not in {MANIFEST}"
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError) as error:
        return str(error)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
    return None


def other_identity(folder: Path, step: int, trial: str | None) -> str | None:
    """What a whole checkpoint is of, if not of this step and this trial (None: of any)."""
    try:
        state = json.loads((folder / STATE).read_text())
        if state["step"] != step:
            return f"{STATE} is that of step {state['step']}"
        if trial is not None and state["trial"] != trial:
            return f"{STATE} is that of the trial {state['trial']}"
    except (FileNotFoundError, ValueError, TypeError, KeyError) as error:
        return f"{STATE} does not say what it is of ({error!r})"
    return None


def hash_files(folder: Path, files: Iterable[Path]) -> Hashes:
    """Flush files of a folder to the disk, and hash them."""
    return {path.relative_to(folder).as_posix(): sha256_of(path, flush=True) for path in files}


def write_flushed(path: Path, text: str) -> str:
    """Write a small file, flush it to the disk; returns its SHA-256."""
    path.write_text(text)
    return sha256_of(path, flush=True)


def flush_folder(path: Path) -> None:
    """Let the names in a folder reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path, flush: bool = False) -> str:
    """SHA-256 of a file, flushed to the disk first if asked."""
    with path.open("rb") as file:
        if flush:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
