"""Shards in a folder: mapped where they lie."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from transvae_platform.data.sets.from_disk import ask_for_ends, ask_for_records, some_are_missing
from transvae_platform.data.sets.gather import Piece
from transvae_platform.data.sets.in_memory import mapped_in_large_pages
from transvae_platform.data.sets.shards import Shard, ShardFile


class LocalShelf:
    """Shards in a folder."""

    distant = False

    def __init__(self, folder: Path, in_memory: bool = False) -> None:
        """`in_memory`: all its shards are likely to stay in the machine's memory."""
        self._folder, self._in_memory = folder, in_memory
        self._expected: set[str] = set()
        self._begun = False

    def open(self, shard: Shard) -> ShardFile:
        """The file itself, mapped."""
        path = self._folder / shard.file
        return ShardFile(mapped_in_large_pages(path) if self._in_memory else path)

    def expect(self, shards: Iterable[Shard]) -> None:
        """They are there; what opening them reads begins to come from the disk, of all of them at once."""
        for shard in shards:
            if shard.file not in self._expected:
                self._expected.add(shard.file)
                ask_for_ends(self._folder / shard.file)

    def fetch(self, pieces: Sequence[Piece]) -> None:
        """These records are copied next: what is missing begins to come from the disk, all at once.

        Of shards that stay in memory only the first batch is asked for, so that a training begins at once: what comes
        record by record lies in small pages, the rest is to come in large ones.
        """
        if not self._begun or (not self._in_memory and some_are_missing(pieces)):
            ask_for_records(pieces)
        self._begun = True

    def refuse_order(self, window: int | None) -> None:
        """Every order is as good: all shards stay."""
