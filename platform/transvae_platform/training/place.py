"""What a place for checkpoints can do; `folder.py` and `bucket.py` are the two kinds."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from transvae_platform.training.manifest import Hashes

KEY = "resources.checkpoints"
"""The key of a study file that names a place."""
BAD = "bad_"
"""Begins the names of checkpoints that were set aside."""


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
