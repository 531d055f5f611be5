"""Data sets on an object store: shards come to a local cache when they are needed, and leave it when it is full.

Protocol
1. The cache is a folder per fingerprint, shared by all processes of a node. A shard is downloaded under a temporary
   name, compared with its SHA-256 and renamed: under its own name it is whole.
2. One process downloads a shard at a time (a lock file beside it); the others wait and find it.
3. Before a download the least recently used shards leave until the new one fits into `max_bytes`. A shard that is
   mapped by a reader stays readable after that; its space is free when the last reader lets go.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from transvae_platform.data.sets.manifest import Manifest, parse_manifest
from transvae_platform.data.sets.shards import Shard
from transvae_platform.data.sets.stores import open_store
from transvae_platform.errors import UnreachableError, UserError

CACHE_VARIABLE = "TRANSVAE_CACHE"
CACHE_BYTES = 50 * 10**9  # assumption
TRIES = 3  # downloads of one shard before it counts as damaged or out of reach
COPY_BYTES = 2**22


class RemoteShelf:
    """Shards on a store, with a local cache of bounded size."""

    def __init__(self, location: str, manifest: Manifest, cache: Path, max_bytes: int) -> None:
        """`location` is the data set's URI; `cache` a local folder; `max_bytes` must hold two shards at least."""
        largest = max(shard.bytes for shard in manifest.shards)
        if max_bytes < 2 * largest:
            raise UserError(
                f"data.cache_bytes: {max_bytes} bytes do not hold two shards of {location} ({largest} bytes each)"
            )
        self._store, self._root = open_store(location)
        self._location, self._cache, self._max_bytes = location, cache / manifest.fingerprint, max_bytes
        self._cache.mkdir(parents=True, exist_ok=True)
        self._soon = ThreadPoolExecutor(2, thread_name_prefix="shards")

    def path(self, shard: Shard) -> Path:
        """The shard's local copy, downloaded if it is not there.

        Raises:
            UnreachableError: the store does not answer, or keeps giving other bytes than the manifest names.
        """
        local = self._cache / shard.file
        if not _touched(local):
            with (self._cache / f".{shard.file}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not _touched(local):
                    self._make_room(shard.bytes)
                    self._download(shard, local)
        return local

    def expect(self, shards: Iterable[Shard]) -> None:
        """Begin to download shards that will be needed."""
        for shard in shards:
            if not (self._cache / shard.file).exists():
                self._soon.submit(self.path, shard)

    def _download(self, shard: Shard, local: Path) -> None:
        temporary = local.with_name(f".{local.name}.{os.getpid()}")
        problem = ""
        for attempt in range(TRIES):
            time.sleep(attempt)  # a busy store gets a second, then two
            try:
                with self._store.open_input_stream(f"{self._root}/{shard.file}") as source, temporary.open("wb") as out:
                    shutil.copyfileobj(source, out, COPY_BYTES)
                with temporary.open("rb") as file:
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                problem = str(error)
                continue
            if sha256 == shard.sha256:
                temporary.replace(local)
                return
            problem = f"its SHA-256 is {sha256}, the manifest says {shard.sha256}"
        temporary.unlink(missing_ok=True)
        raise UnreachableError(f"{self._location}/{shard.file}: {problem} ({TRIES} attempts)")

    def _make_room(self, needed: int) -> None:
        files = sorted(
            ((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path) for entry in os.scandir(self._cache)
             if entry.name.endswith(".arrow") and not entry.name.startswith(".")),
        )  # fmt: skip
        used = sum(size for _, size, _ in files)
        for _, size, path in files:
            if used + needed <= self._max_bytes:
                break
            Path(path).unlink(missing_ok=True)
            used -= size


def default_cache() -> Path:
    """The folder for shards of distant data sets: what TRANSVAE_CACHE says, else in the machine's temporary folder."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path(tempfile.gettempdir()) / "transvae-cache")


def read_remote_manifest(location: str) -> Manifest:
    """The manifest of a data set on a store.

    Raises:
        UnreachableError: the store does not answer or holds no data set there.
    """
    store, root = open_store(location)
    try:
        with store.open_input_stream(f"{root}/manifest.json") as file:
            return parse_manifest(file.read().decode(), f"{location}/manifest.json")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreachableError(f"{location}: no data set can be read there ({error})") from None


def _touched(path: Path) -> bool:
    """Whether the file is there; marks it as used now."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True
