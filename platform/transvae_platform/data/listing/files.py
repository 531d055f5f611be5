"""The files of a location, found without reading one: names, paths, sizes and stamps in an Arrow table."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from transvae_platform.data.sets.stores import as_location, as_utf8, below, local_path, open_store, printable, reaching
from transvae_platform.errors import SpecError

FILES_SCHEMA = pa.schema({"name": pa.string(), "path": pa.string(), "size": pa.int64(), "stamp": pa.string()})

CHUNK = 65_536
"""Files held as Python objects at a time (assumption)."""

REQUESTS = 8
"""Folders of a store asked for at the same time (assumption)."""

Wanted = Callable[[str], bool]
Found = tuple[str, str, int, str]


def find_files(location: str, wanted: Wanted, passed_over: Counter[str], home: str | None = None) -> pa.Table:
    """The files at or below a location whose own names are wanted, in no order; see FILES_SCHEMA.

    Hidden files and folders are left out, and so is a `home` inside the location, where this platform keeps what it
    makes. Links are followed; a file that several links lead to is found once, under
    its own name if it lies in the location, else under the first link in alphabetical order. Links that lead
    nowhere are found too, with the size 0, and so are devices and pipes: whoever reads them is told why they cannot be.
    What is not wanted is counted in `passed_over` by its suffix.

    Raises:
        SpecError: the location is missing, an unwanted file, or holds a folder that cannot be read.
        UnreachableError: the store does not answer.
    """
    with reaching(location):
        path = local_path(location)
        counted = _counting(wanted, passed_over)
        found = _local(path, counted, wanted, home) if path is not None else _remote(location, counted)
        tables = []
        while rows := list(islice(found, CHUNK)):
            names, paths, sizes, stamps = zip(*rows, strict=True)
            columns = [_text(names, as_utf8), _text(paths, as_location), pa.array(sizes, pa.int64()), stamps]
            tables.append(pa.table(columns, schema=FILES_SCHEMA))
        return pa.concat_tables(tables).combine_chunks() if tables else FILES_SCHEMA.empty_table()


def _counting(wanted: Wanted, passed_over: Counter[str]) -> Wanted:
    def ask(name: str) -> bool:
        if wanted(name):
            return True
        passed_over[as_utf8(os.path.splitext(name)[1].lower())] += 1  # noqa: PTH122 - names are text here
        return False

    return ask


def _text(values: tuple[str, ...], escape: Callable[[str], str]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:  # some name is no UTF-8
        return pa.array([escape(value) for value in values], pa.string())


def _local(root: str, wanted: Wanted, of_targets: Wanted, home: str | None) -> Iterator[Found]:
    if os.path.isfile(root):  # noqa: PTH113 - paths stay text: pathlib objects cost more than the rest
        _check_file(root, wanted(os.path.basename(root)))  # noqa: PTH119
        status = os.stat(root)  # noqa: PTH116
        yield os.path.basename(root), root, status.st_size, f"{status.st_size}:{status.st_mtime_ns}"  # noqa: PTH119
        return
    entered = _left_out(root, home)
    folders, links, linked_files = [""], list[str](), list[str]()
    while folders or links:
        if not folders:  # real folders come first, or a file's name would depend on where a link sorts
            links.sort(reverse=True)
        inside = folders.pop() if folders else links.pop()
        folder = f"{root}/{inside}".rstrip("/") or "/"
        real = os.path.realpath(folder)
        if real in entered:  # a second way to the folder, or a link back up
            continue
        entered.add(real)
        with reaching(folder), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                name = inside + entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{name}/")
                elif entry.is_symlink():
                    if _leads_to_folder(entry):
                        links.append(f"{name}/")
                    elif wanted(entry.name):
                        linked_files.append(name)
                elif wanted(entry.name):
                    status = entry.stat()
                    yield name, entry.path, status.st_size, f"{status.st_size}:{status.st_mtime_ns}"
    yield from _linked(root, sorted(linked_files), entered, of_targets)


def _left_out(root: str, home: str | None) -> set[str]:
    """The home, resolved, as if it had been entered before; nothing if the root itself lies in it."""
    if home is None:
        return set()
    real, own = os.path.realpath(root), os.path.realpath(home)
    return set() if f"{real}/".startswith(f"{own}/") else {own}


def _linked(root: str, names: list[str], entered: set[str], wanted: Wanted) -> Iterator[Found]:
    seen = set()
    for name in names:
        path = f"{root}/{name}"
        real = os.path.realpath(path)
        try:
            status = os.stat(path)  # noqa: PTH116
        except OSError as error:  # dangling, a circle, or through a folder that is closed to us
            yield name, path, 0, f"0:{errno.errorcode.get(error.errno or 0, '')}"
            continue
        folder, _, base = real.rpartition("/")
        is_listed = real in seen or (folder in entered and wanted(base) and not base.startswith("."))
        if not is_listed:
            seen.add(real)
            yield name, path, status.st_size, f"{status.st_size}:{status.st_mtime_ns}"


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a circle of links
        return False


def _remote(location: str, wanted: Wanted) -> Iterator[Found]:
    filesystem, root = open_store(location)
    client = _client(filesystem)
    if client is not None:
        client.invalidate_cache()  # some clients answer from what they saw earlier
    info = filesystem.get_file_info(root)
    if info.type == pafs.FileType.NotFound:
        raise FileNotFoundError(root)
    if info.type == pafs.FileType.File:
        name = root.rpartition("/")[2]
        _check_file(location, wanted(name))
        yield name, location, info.size, _stamp(client.info(root)) if client else f"{info.size}:{info.mtime_ns}"
        return
    cut = len(root.rstrip("/")) + 1
    level = [root]
    with ThreadPoolExecutor(max_workers=REQUESTS) as pool:
        while level:
            deeper = []
            for answers in pool.map(lambda folder: _ask(filesystem, folder), level):
                for path, is_folder, size, stamp in answers:
                    inside, base = path[cut:], path.rstrip("/").rpartition("/")[2]
                    if base.startswith(".") or not inside:
                        continue
                    if is_folder:
                        deeper.append(path)
                    elif wanted(base):
                        yield inside, below(location, inside), size, stamp
            level = deeper


def _ask(filesystem: Any, folder: str) -> list[tuple[str, bool, int, str]]:
    """(path, is it a folder, size, stamp) of everything in a folder of a store."""
    client = _client(filesystem)
    if client is not None:
        return [
            (info["name"], info["type"] == "directory", info["size"], _stamp(info))
            for info in client.ls(folder, detail=True)
            if info["name"].rstrip("/") != folder.rstrip("/")  # some stores list the folder's own mark
        ]
    return [
        (info.path, info.type == pafs.FileType.Directory, info.size, f"{info.size}:{info.mtime_ns}")
        for info in filesystem.get_file_info(pafs.FileSelector(folder))
    ]


def _client(filesystem: Any) -> Any:
    """What fsspec opened, else None. It is asked directly, because only its own answers have etags."""
    handler = getattr(filesystem, "handler", None)
    return handler.fs if isinstance(handler, pafs.FSSpecHandler) else None


def _stamp(info: dict[str, Any]) -> str:
    keys = ("ETag", "etag", "md5", "mtime", "LastModified", "last_modified", "updated", "created")
    return f"{info['size']}:{next((info[key] for key in keys if info.get(key)), '')}"


def _check_file(location: str, is_wanted: bool) -> None:
    if not is_wanted:
        raise SpecError(f"data.path: {printable(location)} is a file - give the folder that holds your images")
