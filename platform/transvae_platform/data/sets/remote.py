"""Data sets on an object store: shards come to a local cache when they are needed, and leave it when it is full.

Protocol
1. The cache is a folder per fingerprint and SHA-256 of its shards, so that nobody's data set can stand in for another
   one's, shared by all processes of a node. A shard is downloaded under a temporary name, compared with its SHA-256,
   flushed to the disk and renamed: under its own name it is whole. A process compares its size whenever it opens it,
   and its SHA-256 once; one that was damaged since leaves the cache and is downloaded again.
2. Who downloads a shard holds an flock on its temporary file, `.<shard>.part`; who else wants that shard waits for
   it and finds the shard there. Other shards come at the same time. A temporary file that nobody holds is of a process
   that was killed, and is removed or used again.
3. `max_bytes` bounds all shards of the cache folder together, whichever data set they are of, and all of its disk
   space: a shard that is mapped is held by a shared flock (`held.py`) and does not leave. Before a download its bytes
   are set aside under the lock of the node, the file `.lock`: the least recently used shards that nobody holds leave
   until it fits beside the others and those under way (a temporary file has its full size from then on); a shard also
   gets its name under that lock. Processes with different bounds each keep to their own.
4. Who finds no room waits. Nobody waits for ever: who waits holds no shard, since records are copied out of one shard
   before the next one is opened (`samples.py`), and who has held everything for PATIENCE ends it with an error. A file
   that vanished before it was mapped is downloaded again.
5. What is expected is downloaded in the order of need, and only as much of it as fits into the cache together.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from transvae_platform.data.sets.gather import Piece
from transvae_platform.data.sets.held import is_at, mapped_while_held, removed_unless_held
from transvae_platform.data.sets.manifest import FINGERPRINT, Manifest, parse_manifest
from transvae_platform.data.sets.shards import Shard, ShardFile
from transvae_platform.data.sets.stores import first_line, open_store
from transvae_platform.errors import SpecError, UnreachableError, UserError
from transvae_platform.study.trial import stable_hash

CACHE_VARIABLE = "TRANSVAE_CACHE"
CACHE_BYTES = 50 * 10**9  # assumption
TRIES = 3  # downloads of one shard before it counts as damaged or out of reach
COPY_BYTES = 2**22
WAIT = 0.05  # seconds between two looks for room, or for a shard that comes (assumption: it takes longer to come)
PATIENCE = 600  # seconds without room until that is an error (assumption: longer than a store takes for a few shards)
PART = ".part"


class RemoteShelf:
    """Shards on a store, with a local cache of bounded size."""

    distant = True

    def __init__(self, location: str, manifest: Manifest, cache: Path, max_bytes: int, sharing: int = 1) -> None:
        """`location` is the data set's URI; `cache` a local folder, whose share must hold two shards at least.

        `sharing` is the number of data sets that are read at once through the cache.
        """
        largest = max(shard.bytes for shard in manifest.shards)
        self._share = max_bytes // sharing
        if self._share < 2 * largest:
            raise UserError(
                f"data.cache_bytes: {self._share} bytes do not hold two shards of {location} ({largest} bytes each)"
            )
        self._store, self._root = open_store(location)
        self._location, self._max_bytes, self._manifest = location, max_bytes, manifest
        self._all, self._cache = cache, cache / cache_folder(manifest)
        self._sound: set[str] = set()
        self._soon = ThreadPoolExecutor(1, thread_name_prefix="shards")
        self._coming: set[str] = set()

    def refuse_order(self, window: int | None) -> None:
        """Raises SpecError if the cache does not hold what an order over `window` shards at a time needs."""
        refuse_small_cache(self._location, self._manifest, window, self._share)

    def open(self, shard: Shard) -> ShardFile:
        """The shard, mapped: until the last view of it is gone it keeps its place in the cache.

        Who holds another shard meanwhile may wait for somebody who waits for that one.

        Raises:
            UnreachableError: the store does not answer, or keeps giving other bytes than the manifest names; or others
                hold the whole cache.
        """
        local = self._cache / shard.file
        while True:
            if (file := self._cached(shard, local) or self._bring(shard, local)) is not None:
                return file

    def expect(self, shards: Iterable[Shard]) -> None:
        """Begin to download shards that will be needed, the first ones first; what is there counts as used."""
        room = self._share
        for shard in shards:
            room -= shard.bytes
            if room < 0:
                return
            is_ready = _touched(self._cache / shard.file) and shard.file in self._sound
            if not is_ready and shard.file not in self._coming:
                self._coming.add(shard.file)
                self._soon.submit(self._come, shard)

    def fetch(self, pieces: Sequence[Piece]) -> None:
        """Nothing to do: what came to the cache was read for its SHA-256."""

    def _come(self, shard: Shard) -> None:
        try:
            self.open(shard)
        finally:
            self._coming.discard(shard.file)

    def _cached(self, shard: Shard, local: Path) -> ShardFile | None:
        """The shard from the cache; None if it is not there, or was damaged since it came: it is gone then."""
        try:
            with local.open("rb") as cached:
                os.utime(local)
                if os.fstat(cached.fileno()).st_size == shard.bytes:
                    file = ShardFile(mapped_while_held(cached))
                    if not is_at(cached, local):  # it left before it was held
                        return None
                    if shard.file in self._sound or file.sha256() == shard.sha256:
                        self._sound.add(shard.file)
                        return file
        except (FileNotFoundError, NotADirectoryError):
            return None
        except pa.ArrowInvalid:  # damaged where Arrow looks first
            pass
        local.unlink(missing_ok=True)
        return None

    def _bring(self, shard: Shard, local: Path) -> ShardFile | None:
        """The shard, downloaded; None if somebody else has brought it meanwhile."""
        temporary = local.with_name(f".{local.name}{PART}")
        try:
            self._cache.mkdir(parents=True, exist_ok=True)  # again: temporary folders get cleaned
        except OSError as error:
            raise UserError(f"{self._cache} cannot be made ({first_line(error)}) - set {CACHE_VARIABLE}") from None
        with temporary.open("a+b") as out:
            while not _is_locked(out):
                if not is_at(out, temporary):  # it has come, and who reads it holds it
                    return None
                time.sleep(WAIT)
            if local.exists() or not is_at(out, temporary):
                return None
            try:
                self._set_aside(shard, out)
                self._download(shard, temporary, out)
                os.fsync(out.fileno())
                with self._node_locked():  # or who looks for room would count it twice, or not at all
                    temporary.replace(local)
                    file = ShardFile(mapped_while_held(out))
                self._sound.add(shard.file)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        return file

    def _download(self, shard: Shard, temporary: Path, out: BinaryIO) -> None:
        problem = ""
        for attempt in range(TRIES):
            time.sleep(attempt)  # a busy store gets a second, then two
            try:
                with self._store.open_input_stream(f"{self._root}/{shard.file}") as source, temporary.open("r+b") as to:
                    shutil.copyfileobj(source, to, COPY_BYTES)
                    to.truncate()
                with temporary.open("rb") as file:
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                problem = str(error)
                continue
            if sha256 == shard.sha256:
                return
            problem = f"its SHA-256 is {sha256}, the manifest says {shard.sha256}"
            out.truncate(shard.bytes)
        raise UnreachableError(f"{self._location}/{shard.file}: {problem} ({TRIES} attempts)")

    @contextmanager
    def _node_locked(self) -> Iterator[None]:
        with (self._all / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _set_aside(self, shard: Shard, out: BinaryIO) -> None:
        """Make room, and take it: the file has its full size before anybody else looks for room."""
        until = time.monotonic() + PATIENCE
        while True:
            with self._node_locked():
                out.truncate(0)  # what a killed download left
                if self._make_room(shard.bytes):
                    out.truncate(shard.bytes)
                    return
            if time.monotonic() > until:
                raise UnreachableError(
                    f"data.cache_bytes: for {PATIENCE} s there was no room for {shard.file} of {self._location} within "
                    f"the {self._max_bytes} bytes of {self._all}: others on this node hold them - raise it, or set "
                    f"{CACHE_VARIABLE} to another folder for one of them"
                )
            time.sleep(WAIT)

    def _make_room(self, needed: int) -> bool:
        """Whether there is room now; what is under way, or read, cannot leave."""
        files, used = [], needed
        for path in _files(self._all):
            if path.name.startswith(".") and removed_unless_held(path):
                continue
            try:
                status = path.stat()
            except FileNotFoundError:  # whoever cleans temporary folders asks for no lock
                continue
            used += status.st_size
            if not path.name.startswith("."):
                files.append((status.st_mtime_ns, status.st_size, path))
        for _, size, path in sorted(files):
            if used <= self._max_bytes:
                break
            if removed_unless_held(path):
                used -= size
        return used <= self._max_bytes


def refuse_small_cache(name: str, manifest: Manifest, window: int | None, room: int) -> None:
    """Refuse an order in which shards would go and come back in every batch: that would cost more than the training.

    Args:
        name: of the data set, in the message.
        window: how many shards are shuffled at a time; None: all.
        room: bytes of the cache that are the data set's.

    Raises:
        SpecError: they do not hold what the order needs.
    """
    if window is None and manifest.bytes > room:
        raise SpecError(
            f"data.sampling.shuffle_window: {name} has {manifest.bytes} bytes, more than its {room} of "
            "data.cache_bytes - raise that, or set a window of shards to shuffle within"
        )
    sizes = sorted((shard.bytes for shard in manifest.shards if shard.split == "train"), reverse=True)
    needed = sum(sizes[: 2 * (window or 0)])  # one window in use, one on its way
    if needed > room:
        raise SpecError(
            f"data.cache_bytes: {room} bytes for {name} do not hold two windows of {window} shards, {needed} "
            "bytes - raise it, or lower data.sampling.shuffle_window"
        )


def default_cache() -> Path:
    """The folder for shards of distant data sets: what TRANSVAE_CACHE says, else one of this user's, which is made.

    Raises:
        UserError: another user made it first.
    """
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    folder = Path(tempfile.gettempdir()) / f"transvae-cache-{os.geteuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise UserError(f"{folder} belongs to somebody else - set {CACHE_VARIABLE} to a folder of your own")
    return folder


def cache_folder(manifest: Manifest) -> str:
    """The name of a data set's folder in a cache: of what it says it is, and of the bytes of its shards."""
    return stable_hash([manifest.fingerprint, [shard.sha256 for shard in manifest.shards]])[:32]


def read_remote_manifest(location: str) -> Manifest:
    """The manifest of a data set on a store.

    Raises:
        UnreachableError: the store does not answer or holds no data set there.
    """
    store, root = open_store(location)
    try:
        with store.open_input_stream(f"{root}/manifest.json") as file:
            text = file.read().decode(errors="replace")
    except (OSError, ValueError) as error:  # ValueError: no path that the store knows
        raise UnreachableError(f"{location}: no data set can be read there ({first_line(error)})") from None
    return parse_manifest(text, f"{location}/manifest.json")


def _files(cache: Path) -> list[Path]:
    """What lies in the folders of the cache; a folder with a manifest is a data set, no part of the cache."""
    folders = [path for path in cache.iterdir() if FINGERPRINT.fullmatch(path.name) and path.is_dir()]
    return [path for folder in folders if not (folder / "manifest.json").exists() for path in folder.iterdir()]


def _is_locked(file: BinaryIO) -> bool:
    """Whether this process has the only lock on the file now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _touched(path: Path) -> bool:
    """Whether the file is there; marks it as used now."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True
