"""The shards of a split that are mapped, and where their columns lie in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from transvae_platform.data.sets.shards import Shard, ShardFile
from transvae_platform.errors import UserError


class OpenShards:
    """Maps shards when they are needed, and lets the least recently used go."""

    def __init__(self, shards: Sequence[Shard], open_shard: Callable[[Shard], ShardFile], most: int | None) -> None:
        """`most` is how many stay mapped at once; by default all do."""
        self._shards, self._open, self._most = shards, open_shard, most
        self._files: dict[int, ShardFile] = {}  # the last used one last
        self._addresses: dict[str, NDArray[np.int64]] = {}  # of the first record of each shard; 0: not known
        self._lock = Lock()

    def file(self, index: int) -> ShardFile:
        """One shard, mapped."""
        with self._lock:
            file = self._use(index)
            self._let_go()
        return file

    def starts(self, which_B: NDArray[np.int64], name: str, nbytes: int) -> tuple[NDArray[np.int64], list[ShardFile]]:
        """(B,) addresses of the first record of `nbytes` bytes of each shard, and what keeps them valid.

        Raises:
            UserError: a shard has no such column, or one with nulls, or other records than the manifest promises.
        """
        with self._lock:
            table = self._addresses.setdefault(name, np.zeros(len(self._shards), np.int64))
            needed = np.unique(which_B if self._most is not None else which_B[table[which_B] == 0]).tolist()
            files = [self._use(index) for index in needed]
            for index, file in zip(needed, files, strict=True):
                if not table[index]:
                    table[index] = self._start(index, file, name, nbytes)
            addresses = table[which_B]
            self._let_go()
        return addresses, files

    def _use(self, index: int) -> ShardFile:
        file = self._files.pop(index, None)
        self._files[index] = file = self._open(self._shards[index]) if file is None else file
        return file

    def _let_go(self) -> None:
        while self._most is not None and len(self._files) > self._most:
            oldest = next(iter(self._files))
            del self._files[oldest]
            for table in self._addresses.values():
                table[oldest] = 0

    def _start(self, index: int, file: ShardFile, name: str, nbytes: int) -> int:
        shard = self._shards[index]
        try:
            return file.where(name, shard.records, nbytes)
        except (KeyError, ValueError) as error:
            raise UserError(f"data: {shard.file}: {error.args[0]}") from None
