"""Whole data sets, in folders or on stores: compared with their hashes, and copied from one place to another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from pyarrow.fs import FileSelector, FileSystem

from transvae_platform.data.sets.manifest import Manifest
from transvae_platform.data.sets.shards import Shard
from transvae_platform.data.sets.stores import first_line, open_store
from transvae_platform.errors import SpecError, UnreachableError

BLOCK = 2**22  # bytes read at once


def find_damage(location: str | Path, manifest: Manifest) -> Iterator[tuple[Shard, str | None]]:
    """Every shard with what is wrong with it, or None: reads all bytes."""
    store, root = open_store(str(location))
    for shard in manifest.shards:
        digest = hashlib.sha256()
        try:
            with store.open_input_stream(f"{root}/{shard.file}") as file:
                while block := file.read(BLOCK):
                    digest.update(block)
        except OSError as error:
            yield shard, first_line(error)
            continue
        sha256 = digest.hexdigest()
        yield shard, None if sha256 == shard.sha256 else f"its SHA-256 is {sha256}, the manifest says {shard.sha256}"


def copy_set(source: str | Path, manifest: Manifest, destination: str | Path) -> Iterator[int]:
    """Copy a data set, the manifest last; yields the bytes of each shard as it is there.

    A shard that has its size at the destination already is not copied again.

    Raises:
        SpecError: the destination is the source.
        UnreachableError: one of the two cannot be read or written, or the source is damaged.
    """
    (there, from_root), (here, to_root) = open_store(str(source)), open_store(str(destination))
    if there.equals(here) and from_root.rstrip("/") == to_root.rstrip("/"):
        raise SpecError(f"{destination} is where the data set lies already - give another place")
    try:
        here.create_dir(to_root, recursive=True)
        known = {info.base_name: info.size for info in here.get_file_info(FileSelector(to_root, allow_not_found=True))}
        for shard in manifest.shards:
            if known.get(shard.file) != shard.bytes:
                sha256 = _copy(there, f"{from_root}/{shard.file}", here, f"{to_root}/{shard.file}")
                if sha256 != shard.sha256:
                    here.delete_file(f"{to_root}/{shard.file}")
                    raise UnreachableError(f"{source}/{shard.file} is damaged: its SHA-256 is not the manifest's")
            yield shard.bytes
        _copy(there, f"{from_root}/manifest.json", here, f"{to_root}/manifest.json")
    except OSError as error:
        raise UnreachableError(f"{source} to {destination}: {first_line(error)} - the same command continues") from None


def _copy(there: FileSystem, path: str, here: FileSystem, where: str) -> str:
    digest = hashlib.sha256()
    with there.open_input_stream(path) as source, here.open_output_stream(where) as out:
        while block := source.read(BLOCK):
            digest.update(block)
            out.write(block)
    return digest.hexdigest()
