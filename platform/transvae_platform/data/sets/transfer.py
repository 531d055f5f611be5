"""Whole data sets, in folders or on stores, copied from one place to another.

Protocol of a copy
1. The destination holds nothing, a begun copy of the same data set, or a whole one; anything else is refused.
2. Before the first shard a claim, `.copying-<fingerprint>`, is written; the manifest comes last, then the claim goes.
3. A shard that is there already stays if its SHA-256 is the manifest's, else it is copied again: the same command
   continues a copy that was interrupted, and mends one that was damaged.
4. In a folder each file is written under a temporary name, put on the disk and renamed; a store shows an object when it
   is whole.
5. A second copy into a folder waits for the first. On a store, two of one data set write the same objects.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

from pyarrow.fs import FileSelector, FileSystem, LocalFileSystem

from transvae_platform.data.making.lock import locked
from transvae_platform.data.sets.manifest import Manifest, parse_manifest
from transvae_platform.data.sets.stores import first_line, open_store
from transvae_platform.errors import SpecError, UnreachableError

BLOCK = 2**22  # bytes read at once
CLAIM = ".copying-"
LOCK = ".copying.lock"


def copy_set(source: str | Path, manifest: Manifest, destination: str | Path) -> Iterator[int]:
    """Copy a data set, see the protocol above; yields the bytes of each shard as it is there.

    Raises:
        SpecError: the destination is the source, or holds another data set.
        UserError: the destination holds a manifest that is damaged.
        UnreachableError: one of the two cannot be read or written, or the source is damaged.
    """
    (there, from_root), (here, to_root) = open_store(str(source)), open_store(str(destination))
    if there.equals(here) and _is_same(here, from_root.rstrip("/"), to_root.rstrip("/")):
        raise SpecError(f"{destination} is where the data set lies already - give another place")
    claim = f"{to_root}/{CLAIM}{manifest.fingerprint}"
    try:
        here.create_dir(to_root, recursive=True)
        with locked(Path(to_root, LOCK)) if isinstance(here, LocalFileSystem) else nullcontext():
            there_already = here.get_file_info(FileSelector(to_root, allow_not_found=True))
            known = {info.base_name: info.size for info in there_already}
            _refuse_another(here, to_root, set(known), manifest, str(destination))
            with here.open_output_stream(claim) as out:
                out.write(manifest.fingerprint.encode())  # some stores do not keep empty objects
            for shard in manifest.shards:
                where = f"{to_root}/{shard.file}"
                whole = known.get(shard.file) == shard.bytes and _sha256(here, where) == shard.sha256
                if not whole and _copy(there, f"{from_root}/{shard.file}", here, where) != shard.sha256:
                    here.delete_file(where)
                    raise UnreachableError(f"{source}/{shard.file} is damaged: its SHA-256 is not the manifest's")
                yield shard.bytes
            _copy(there, f"{from_root}/manifest.json", here, f"{to_root}/manifest.json")
            with suppress(FileNotFoundError):  # on a store, another copy has removed it
                here.delete_file(claim)
    except OSError as error:
        raise UnreachableError(f"{source} to {destination}: {first_line(error)} - the same command continues") from None


def _is_same(store: FileSystem, one: str, other: str) -> bool:
    if not isinstance(store, LocalFileSystem):
        return one == other
    return os.path.exists(other) and os.path.samefile(one, other)  # noqa: PTH110, PTH121 - also through links


def _refuse_another(here: FileSystem, root: str, names: set[str], manifest: Manifest, destination: str) -> None:
    own = f"{CLAIM}{manifest.fingerprint}"
    others = {name.removeprefix(CLAIM) for name in names if name.startswith(CLAIM) and name != own}
    if "manifest.json" in names and own not in names:  # under a claim it may be half written
        with here.open_input_stream(f"{root}/manifest.json") as file:
            text = file.read().decode(errors="replace")
        others |= {parse_manifest(text, f"{destination}/manifest.json").fingerprint} - {manifest.fingerprint}
    if others:
        raise SpecError(
            f"{destination} holds another data set ({', '.join(sorted(others))}), not {manifest.fingerprint} - "
            "give another place, or empty this one"
        )


def _sha256(store: FileSystem, path: str) -> str:
    digest = hashlib.sha256()
    with store.open_input_stream(path) as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _copy(there: FileSystem, path: str, here: FileSystem, where: str) -> str:
    folder, _, name = where.rpartition("/")
    target = f"{folder}/.{name}.part" if isinstance(here, LocalFileSystem) else where
    digest = hashlib.sha256()
    with there.open_input_stream(path) as source, here.open_output_stream(target) as out:
        while block := source.read(BLOCK):
            digest.update(block)
            out.write(block)
    if target != where:
        with open(target, "rb") as file:  # noqa: PTH123
            os.fsync(file)
        here.move(target, where)
    return digest.hexdigest()
