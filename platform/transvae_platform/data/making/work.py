"""How a data set comes to be, whatever is in it: pieces of work, done anywhere, any number of times, published at once.

Protocol
1. The work happens in `<home>/data/.making-<origin>-<key>`, under a lock beside it; the key is a hash of everything
   that decides the result and is known before. A second process that makes the same waits for the first and finds its
   result.
2. Each piece of work is a pure function of its description. It writes its shard, then its result beside it, each
   atomically and on the disk. A making that was killed does only the pieces without a readable result or
   without the shard that it names, and ends with the same bytes.
3. Publishing writes the manifest, gives the folder its final name, the fingerprint, under a lock of it, and writes
   `<home>/data/made/<key>.json`, which says which fingerprint the key led to. Nothing else is left behind. A damaged
   data set that had the name is set aside in `<home>/data/bad/`, for people to look at; nobody reads it.
4. The origin is a hash of what was asked for. Whoever asks for it again either continues (the key is the same) or,
   since the source changed meanwhile, sweeps the other folders of this origin away, unless a living process holds their
   lock.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transvae_platform.data.making.lock import locked
from transvae_platform.data.sets.manifest import Manifest, read_manifest, write_manifest
from transvae_platform.data.sets.notes import read_note, write_note
from transvae_platform.errors import UnreachableError, UserError
from transvae_platform.study.trial import stable_hash

BAD = "bad"
"""Where in `<home>/data` data sets lie that were set aside."""
Work = dict[str, Any]
"""Plain values: a piece of work travels as JSON. `result` is the path of its result, `items` how many it handles."""
Function = Callable[[Work], None]
Listener = Callable[[int, int], None]
Mapper = Callable[[Function, Sequence[Work]], Iterable[Work]]
"""Applies a function to every piece of work and gives the pieces back as they are done, in any order."""


def run_locally(function: Function, work: Sequence[Work]) -> Iterable[Work]:
    """The mapper without Ray: one piece after the other in this process."""
    for piece in work:
        function(piece)
        yield piece


def run(function: Function, work: Sequence[Work], mapper: Mapper, listen: Listener | None) -> list[dict[str, Any]]:
    """The results of all pieces in order: those that are there, and the others through the mapper.

    `listen` is told how many items of how many are done, first of all how many were before.
    """
    for piece in work:
        if not _is_done(piece):
            Path(piece["result"]).unlink(missing_ok=True)
    finish(function, work, "result", mapper, listen)
    results = [read_note(Path(piece["result"])) for piece in work]
    lost = [piece["result"] for piece, result in zip(work, results, strict=True) if result is None]
    if lost:
        raise UnreachableError(f"{lost[0]} cannot be read right after it was written - is the disk sound?")
    return [result for result in results if result is not None]


def _is_done(piece: Work) -> bool:
    """Whether its result is there, and its shard is what the result says."""
    if (result := read_note(Path(piece["result"]))) is None:
        return False
    if (shard := result.get("shard")) is None:
        return True
    try:
        with Path(piece["shard"]).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == shard["sha256"]
    except OSError:
        return False


def finish(function: Function, work: Sequence[Work], outcome: str, mapper: Mapper, listen: Listener | None) -> None:
    """Do the pieces whose outcome, the file at this key of the piece, is not there yet."""
    left = [piece for piece in work if not Path(piece[outcome]).exists()]
    total = sum(piece["items"] for piece in work)
    done = total - sum(piece["items"] for piece in left)
    if listen:
        listen(done, total)
    for piece in mapper(function, left) if left else ():
        done += piece["items"]
        if listen:
            listen(done, total)


def write_result(work: Work, result: dict[str, Any]) -> None:
    """The last act of a piece of work: from now on it is done."""
    write_note(Path(work["result"]), result)


def find_made(home: Path, key: str) -> Manifest | None:
    """The data set that a key led to, if it was made and every shard is there in its full size."""
    pointer = read_note(home / "data" / "made" / f"{key}.json")
    if pointer is None:
        return None
    return _complete(home / "data" / str(pointer.get("fingerprint")))


@contextmanager
def work_folder(home: Path, key: str, asked: Any) -> Iterator[Path]:
    """The folder to work in, locked; what an earlier process left in it is still there.

    Args:
        asked: what was asked for, plain values: what is left of earlier answers to it is swept away.

    Raises:
        UnreachableError: the disk is full or the home cannot be written.
    """
    folder = home / "data" / f".making-{_origin(asked)}-{key}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_name(f"{folder.name}.lock")):
            folder.mkdir(exist_ok=True)
            sweep(home, asked, keep=key)
            yield folder
    except OSError as error:
        way_out = (
            "free space or choose another --home; done work is kept" if is_full(error) else "choose another --home"
        )
        raise UnreachableError(f"{folder}: {error.strerror or error} - {way_out}") from error


def is_full(error: OSError) -> bool:
    """Whether a disk, or the share of it that one may use, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def sweep(home: Path, asked: Any, keep: str | None = None) -> None:
    """Remove what killed processes left of the making of what was asked for, but for one key; see the protocol."""
    left = {path.name.removesuffix(".lock") for path in (home / "data").glob(f".making-{_origin(asked)}-*")}
    for name in left:
        folder = home / "data" / name
        if name.rpartition("-")[2] == keep:
            continue
        with locked(folder.with_name(f"{name}.lock"), wait=False) as is_dead:
            if is_dead:
                shutil.rmtree(folder, ignore_errors=True)


def _origin(asked: Any) -> str:
    return stable_hash(asked)[:8]


def publish(folder: Path, home: Path, key: str, manifest: Manifest) -> None:
    """Make a finished folder the data set; see the protocol."""
    keep = {shard.file for shard in manifest.shards}
    for path in folder.iterdir():
        if path.name not in keep:
            path.unlink()
    write_manifest(folder, manifest)
    from transvae_platform.data.making.verify import find_damage  # imports torch, which plans do without

    final = home / "data" / manifest.fingerprint
    with locked(final.with_name(f".{final.name}.lock")):  # another key may lead to the same data set at the same time
        known = _complete(final)
        if known and not find_damage(str(final), known):  # made before from another place: trials may be reading it
            shutil.rmtree(folder)
        else:
            set_aside(final)
            folder.replace(final)
    pointer = home / "data" / "made" / f"{key}.json"
    pointer.parent.mkdir(exist_ok=True)
    for path in pointer.parent.glob(f".{pointer.name}.*"):  # of a process that was killed while writing it
        path.unlink()
    write_note(pointer, {"fingerprint": manifest.fingerprint, "source": manifest.source})


def set_aside(folder: Path) -> None:
    """Move what stands at a data set's place, if anything does, to `bad/` beside it, in place of an earlier one."""
    if folder.exists():
        bad = folder.parent / BAD / folder.name
        shutil.rmtree(bad, ignore_errors=True)
        bad.parent.mkdir(exist_ok=True)
        folder.replace(bad)


def _complete(folder: Path) -> Manifest | None:
    """The manifest of a data set that is there with every shard in its full size (`transvae data verify` reads the

    bytes too); one whose manifest cannot be read is not there.
    """
    try:
        manifest = read_manifest(folder)
    except UserError:
        return None
    if manifest is None or manifest.fingerprint != folder.name:
        return None
    sizes = {entry.name: entry.stat().st_size for entry in os.scandir(folder)}
    return manifest if all(sizes.get(shard.file) == shard.bytes for shard in manifest.shards) else None
