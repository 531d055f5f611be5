"""Checkpoints in a folder that all ranks see: a rename makes one visible."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from transvae_platform.training.manifest import MANIFEST, Hashes, flush_folder, manifest_text, write_flushed
from transvae_platform.training.place import BAD, Draft

WRITING, REMOVING = ".writing_", ".removing_"


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
