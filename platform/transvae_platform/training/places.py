"""Which kind of place a path or a URI is, and whether it can be written."""

from __future__ import annotations

import uuid
from pathlib import Path

from transvae_platform.data.sets.stores import local_path, open_store
from transvae_platform.errors import UnreachableError
from transvae_platform.training.bucket import Bucket
from transvae_platform.training.folder import Folder
from transvae_platform.training.place import KEY, Place
from transvae_platform.training.ranks import TROUBLE, reason


def open_place(location: str | Path) -> Place:
    """The place at a path or a URI.

    Raises:
        SpecError, UnreachableError: as `open_store`.
    """
    path = local_path(str(location))
    return Folder(Path(path)) if path is not None else Bucket(str(location))


def check_place(location: str | None) -> None:
    """Refuse a place that cannot be written, before anything starts; None is the home.

    Raises:
        SpecError: nothing opens the URI.
        UnreachableError: it cannot be written.
    """
    if location is None:
        return
    store, root = open_store(location, KEY)
    probe = f"{root.rstrip('/')}/writable.{uuid.uuid4().hex[:8]}"
    try:
        store.create_dir(root, recursive=True)
        with store.open_output_stream(probe) as out:
            out.write(b"")
        store.delete_file(probe)
    except TROUBLE as error:
        rights = "give this machine rights there (credentials, a role of its node), or " if "://" in location else ""
        raise UnreachableError(
            f"{KEY}: {location} cannot be written ({reason(error)}) - {rights}choose another place"
        ) from None
