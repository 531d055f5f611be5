"""Whether the shards that a trial reads are what their manifests say, found out while it trains.

Protocol
1. When an attempt at a trial begins, a thread of every rank hashes its share of the shards, at full speed: beside a GPU
   that costs nothing, on a CPU about a second per gigabyte. What comes from a store was hashed when it was fetched.
2. No checkpoint is made before all ranks know that every shard is whole: the first one of an attempt waits for that.
   So nothing is kept that was trained on damaged data, and a trial continues to its right result once they are mended.
3. A damaged shard ends the trial on all ranks with its name; it is not retried, for it would be found again.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path

import torch

from transvae_platform.data.sets.samples import manifest_at
from transvae_platform.errors import UserError
from transvae_platform.world import World


class DamagedDataError(UserError):
    """A shard is not what its manifest says."""


class ShardCheck:
    """Every rank of a trial has one."""

    def __init__(self, locations: Sequence[str], world: World) -> None:
        """Begin with the data sets at some locations; those on a store are passed over."""
        self._world = world
        folders = [Path(location) for location in dict.fromkeys(locations) if "://" not in location]
        self._shards = [(folder / shard.file, shard) for folder in folders for shard in manifest_at(str(folder)).shards]
        self._bad = 0
        """The number of a damaged shard, counted from 1, or 0."""
        self._settled = False
        self._thread = threading.Thread(target=self._look, name="shard check", daemon=True)
        self._thread.start()

    def settle(self) -> None:
        """Wait until all shards are known to be whole; every rank calls it.

        Raises:
            DamagedDataError: on all ranks, if one of them is not.
        """
        if self._settled:
            return
        self._thread.join()
        found = torch.zeros(self._world.size, dtype=torch.int64, device=self._world.device)
        found[self._world.rank] = self._bad
        worst = int(self._world.sum(found).max())
        if worst:
            path = self._shards[worst - 1][0]
            raise DamagedDataError(
                f"data: {path} is not what its manifest says - submit again: a data set that the study made is made "
                f"anew from its source; one that was ingested before: delete {path.parent} and ingest it again, or "
                "bring it back with `transvae data copy`"
            )
        self._settled = True

    def _look(self) -> None:
        for number, (path, shard) in enumerate(self._shards, 1):
            if number % self._world.size == self._world.rank and _sha256(path) != shard.sha256:
                self._bad = number
                return


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:  # it cannot be read at all
        return None
