"""Where checkpoints lie: a folder, in which a rename makes one visible, or an object store, where its manifest does.

Both keep checkpoints by name, and show a name only when everything that belongs to it is there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow.fs as pafs

from transvae_platform.data.sets.stores import local_path, open_store
from transvae_platform.errors import UnreachableError
from transvae_platform.training.manifest import (
    MANIFEST,
    Hashes,
    flush_folder,
    manifest_text,
    read_manifest,
    write_flushed,
)
from transvae_platform.training.ranks import TROUBLE, reason

KEY = "resources.checkpoints"
BAD = "bad_"
"""Begins the names of checkpoints that were set aside."""
WRITING, REMOVING = ".writing_", ".removing_"
COPY_BYTES = 2**22


@dataclass(frozen=True)
class Draft:
    """A checkpoint that is being written: its name, a word that no other attempt has, its files so far."""

    name: str
    token: str
    folder: Path


class Place(Protocol):
    """Checkpoints by name. What is read and written here may raise OSError."""

    location: str

    def names(self) -> list[str]:
        """The names of all checkpoints to be seen."""

    def draft(self, name: str, token: str) -> Draft:
        """Where to write into, a local folder that is not made yet; every rank calls it."""

    def send(self, draft: Draft, files: Hashes) -> None:
        """Bring files of the draft to where they stay; every rank calls it with its own."""

    def commit(self, draft: Draft, files: Hashes) -> str:
        """Make the draft visible, given the hashes of all its files; returns the manifest's SHA-256."""

    def discard(self, draft: Draft, committed: bool) -> None:
        """Remove a draft that failed, or what a committed one left behind; what stays is for `clean`."""

    def fetched(self, name: str) -> AbstractContextManager[Path]:
        """The local folder of a checkpoint, not compared with its manifest, for as long as the block lasts."""

    def set_aside(self, name: str) -> str:
        """Hide a damaged checkpoint without losing it; returns its new name."""

    def remove(self, name: str) -> None:
        """Remove a checkpoint; a kill in the middle leaves nothing that can be seen."""

    def clean(self) -> None:
        """Remove what killed writers left."""


def open_place(location: str | Path) -> Place:
    """The place at a path or a URI.

    Raises:
        SpecError, UnreachableError: as `open_store`.
    """
    path = local_path(str(location))
    return Folder(Path(path)) if path is not None else Bucket(str(location))


def check_place(location: str | None) -> None:
    """Refuse a place that cannot be written, before anything starts; None is the home.

    Raises:
        SpecError: nothing opens the URI.
        UnreachableError: it cannot be written.
    """
    if location is None:
        return
    store, root = open_store(location, KEY)
    probe = f"{root.rstrip('/')}/writable.{uuid.uuid4().hex[:8]}"
    try:
        store.create_dir(root, recursive=True)
        with store.open_output_stream(probe) as out:
            out.write(b"")
        store.delete_file(probe)
    except TROUBLE as error:
        raise UnreachableError(
            f"{KEY}: {location} cannot be written ({reason(error)}) - choose another place"
        ) from None


class Folder:
    """A folder that all ranks see: ranks write side by side into a temporary folder, which is then renamed."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.location = folder, str(folder)

    def names(self) -> list[str]:
        with suppress(FileNotFoundError):
            return [path.name for path in self._folder.iterdir() if not path.name.startswith((".", BAD))]
        return []

    def draft(self, name: str, token: str) -> Draft:
        return Draft(name, token, self._folder / f"{WRITING}{name}-{token}")

    def send(self, draft: Draft, files: Hashes) -> None:
        """They are where they stay."""

    def commit(self, draft: Draft, files: Hashes) -> str:
        sha256 = write_flushed(draft.folder / MANIFEST, manifest_text(files))
        for folder in (*(path for path in draft.folder.rglob("*") if path.is_dir()), draft.folder):
            flush_folder(folder)
        final = self._folder / draft.name
        if final.exists():  # the same step of an attempt whose later work was lost
            self.remove(draft.name)
        draft.folder.rename(final)
        flush_folder(self._folder)
        return sha256

    def discard(self, draft: Draft, committed: bool) -> None:
        shutil.rmtree(draft.folder, ignore_errors=True)

    @contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        yield self._folder / name

    def set_aside(self, name: str) -> str:
        bad = self._folder / f"{BAD}{name}"
        shutil.rmtree(bad, ignore_errors=True)
        (self._folder / name).rename(bad)
        return bad.name

    def remove(self, name: str) -> None:
        hidden = self._folder / f"{REMOVING}{name}"
        shutil.rmtree(hidden, ignore_errors=True)
        (self._folder / name).rename(hidden)
        shutil.rmtree(hidden)

    def clean(self) -> None:
        for pattern in (WRITING, REMOVING):
            for leftover in self._folder.glob(f"{pattern}*"):
                shutil.rmtree(leftover, ignore_errors=True)


class Bucket:
    """A folder of an object store: files go up first, under the attempt's token, and `manifest.json` last."""

    def __init__(self, location: str) -> None:
        self.location = location
        self._store, root = open_store(location, KEY)
        self._root = root.rstrip("/")

    def names(self) -> list[str]:
        return sorted({name for name, file in self._listing() if file == MANIFEST and not name.startswith(BAD)})

    def draft(self, name: str, token: str) -> Draft:
        # a folder per process: ranks of one machine must not clear away each other's
        return Draft(name, token, Path(tempfile.gettempdir()) / f"transvae-checkpoint-{token}-{os.getpid()}")

    def send(self, draft: Draft, files: Hashes) -> None:
        for file in files:
            path = f"{self._root}/{draft.name}/{draft.token}/{file}"
            self._store.create_dir(path.rpartition("/")[0], recursive=True)
            with (draft.folder / file).open("rb") as source, self._store.open_output_stream(path) as out:
                shutil.copyfileobj(source, out, COPY_BYTES)

    def commit(self, draft: Draft, files: Hashes) -> str:
        text = manifest_text(files, draft.token).encode()
        with self._store.open_output_stream(f"{self._root}/{draft.name}/{MANIFEST}") as out:
            out.write(text)
        return hashlib.sha256(text).hexdigest()

    def discard(self, draft: Draft, committed: bool) -> None:
        shutil.rmtree(draft.folder, ignore_errors=True)
        if not committed:
            with suppress(*TROUBLE):
                self._store.delete_dir(f"{self._root}/{draft.name}/{draft.token}")

    @contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="transvae-checkpoint-") as temporary:
            folder = Path(temporary)
            with suppress(FileNotFoundError, ValueError):  # what is missing or no manifest is found by comparing
                self._download(name, folder)
            yield folder

    def set_aside(self, name: str) -> str:
        self._move(name, f"{BAD}{name}")
        return f"{BAD}{name}"

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._store.delete_file(f"{self._root}/{name}/{MANIFEST}")  # invisible from here on
        self._store.delete_dir(f"{self._root}/{name}")

    def clean(self) -> None:
        seen = set(self.names())
        for name in {name for name, _ in self._listing()} - seen:
            if not name.startswith(BAD):
                self._store.delete_dir(f"{self._root}/{name}")

    def _listing(self) -> list[tuple[str, str]]:
        """(checkpoint, file within it) of every file."""
        found = self._store.get_file_info(pafs.FileSelector(self._root, recursive=True, allow_not_found=True))
        files = [info.path for info in found if info.type == pafs.FileType.File]
        parts = [path.split(f"{self._root.lstrip('/')}/", 1)[1].partition("/") for path in files]
        return [(name, file) for name, _, file in parts]

    def _download(self, name: str, folder: Path) -> None:
        with self._store.open_input_stream(f"{self._root}/{name}/{MANIFEST}") as source:
            text = source.read().decode()
        (folder / MANIFEST).write_text(text)
        inside, files = read_manifest(text)
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            path = f"{self._root}/{name}/{inside}/{file}"
            with self._store.open_input_stream(path) as source, (folder / file).open("wb") as out:
                shutil.copyfileobj(source, out, COPY_BYTES)

    def _move(self, name: str, to: str) -> None:
        with suppress(FileNotFoundError):
            self._store.delete_dir(f"{self._root}/{to}")
        files = [file for known, file in self._listing() if known == name]
        for file in sorted(files, key=lambda file: file != MANIFEST):  # the manifest first: invisible from here on
            path = f"{self._root}/{to}/{file}"
            self._store.create_dir(path.rpartition("/")[0], recursive=True)
            self._store.move(f"{self._root}/{name}/{file}", path)
        with suppress(FileNotFoundError):  # an object store has no empty folders
            self._store.delete_dir(f"{self._root}/{name}")
