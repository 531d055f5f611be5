"""Checkpoints on an object store: the manifest, which goes up last, makes one visible."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow.fs as pafs

from transvae_platform.data.sets.stores import open_store
from transvae_platform.training.manifest import MANIFEST, Hashes, manifest_text, read_manifest
from transvae_platform.training.place import BAD, KEY, Draft
from transvae_platform.training.ranks import TROUBLE

COPY_BYTES = 2**22
FOLDERLESS = ("s3", "gcs")
"""Stores (pyarrow's `type_name`) that know no folders: each one made is a request, as many as a file is deep."""


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
            self._make_parent(path)
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

    def _make_parent(self, path: str) -> None:
        if self._store.type_name not in FOLDERLESS:
            self._store.create_dir(path.rpartition("/")[0], recursive=True)

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
            self._make_parent(path)
            self._store.move(f"{self._root}/{name}/{file}", path)
        with suppress(FileNotFoundError):  # an object store has no empty folders
            self._store.delete_dir(f"{self._root}/{name}")
