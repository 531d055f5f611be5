"""Any location, opened: a local path, or the URI of a store. pyarrow's own file systems first, fsspec's for the rest.

A location is text in UTF-8. A local path that is no UTF-8 travels as a `file://` URI with its bytes percent-escaped.
URIs that pyarrow opens are percent-escaped too; those of fsspec are taken as they are, but for chains (`zip://::x.zip`),
whose names have no one form: they are refused.
"""

from __future__ import annotations

import errno
import importlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, BinaryIO
from urllib.parse import quote, quote_from_bytes, unquote, unquote_to_bytes

import pyarrow as pa
import pyarrow.fs as pafs

from transvae_platform.errors import SpecError, UnreachableError
from transvae_platform.redaction import refuse_password

NATIVE = ("s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss")
"""Schemes that pyarrow opens itself."""

BACKENDS = {"az": "adlfs", "hf": "huggingface_hub", "http": "aiohttp", "https": "aiohttp", "sftp": "paramiko"}
"""The packages behind fsspec's usual schemes."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_CHAIN = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*::)+[A-Za-z][A-Za-z0-9+.-]*://")
"""One store on top of another, as fsspec writes it, where the first has no path: `simplecache::s3://bucket`."""


def local_path(location: str) -> str | None:
    """The absolute path of a local location; None if the location is on a store.

    Raises:
        SpecError: it holds a NUL, which no path does, or chains stores.
    """
    scheme = _scheme(location)
    if scheme not in (None, "file"):
        return None
    if _CHAIN.match(location):
        raise _chained(location)
    path = location if scheme is None else os.fsdecode(unquote_to_bytes(location.partition("://")[2]))
    if "\0" in path:
        raise SpecError(f"data.path: {printable(location)} holds a NUL, which no path does - correct it")
    return path if scheme else os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - pathlib drops ".."


def as_location(path: str) -> str:
    """A local path as a location: itself, or its `file://` URI if its bytes are no UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "file://" + quote_from_bytes(os.fsencode(path))
    return path


def below(location: str, relative: str) -> str:
    """The URI of a file, given the URI of a store's folder and the file's path within it."""
    if _scheme(location) not in NATIVE:
        return f"{location.rstrip('/')}/{relative}"
    folder, mark, query = location.partition("?")
    return f"{folder.rstrip('/')}/{quote(relative)}{mark}{query}"


def as_utf8(name: str) -> str:
    """A name in UTF-8: bytes that are none become \\udcXX, because neither JSON readers nor Arrow take surrogates."""
    return name.encode("utf-8", "backslashreplace").decode()


def printable(name: str) -> str:
    """A name for a message, in UTF-8 and in one line: control characters, too, are spelt out."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), as_utf8(name))


def open_store(location: str, key: str = "data.path") -> tuple[pafs.FileSystem, str]:
    """(file system, path within it) of a location; `key` of the study file is named where it is wrong.

    Raises:
        SpecError: nothing opens the URI's scheme, the URI is malformed, or carries a password.
        UnreachableError: the store does not answer.
    """
    path = local_path(location)
    if path is not None:
        return pafs.LocalFileSystem(), path
    refuse_password(key, location)
    return _open_uri(location, key)


def open_file(location: str) -> pa.NativeFile:
    """A file for reading at any place of it.

    Raises:
        OSError: it is missing, cannot be opened, or is a pipe or a device, which might never end.
        SpecError, UnreachableError: as `open_store`.
    """
    path = local_path(location)
    if path is not None:
        return pa.OSFile(_regular(path))
    # the folder is opened rather than the file: the files of a folder share one connection
    start, mark, query = location.partition("?") if _scheme(location) in NATIVE else (location, "", "")
    folder, _, name = start.rpartition("/")
    if folder.endswith("/"):  # `scheme://name`
        filesystem, inside = open_store(location)
        return filesystem.open_input_file(inside)
    filesystem, inside = open_store(f"{folder}{mark}{query}")
    return filesystem.open_input_file(f"{inside.rstrip('/')}/{unquote(name) if _scheme(location) in NATIVE else name}")


def open_bytes(location: str) -> BinaryIO | pa.NativeFile:
    """As `open_file`, but a local file is Python's own: it is read in a third of the time of Arrow's."""
    path = local_path(location)
    return open(_regular(path), "rb", buffering=0) if path is not None else open_file(location)  # noqa: PTH123


def map_file(location: str) -> pa.NativeFile:
    """As `open_file`, but a local file is mapped into memory: what nobody looks at is not read."""
    path = local_path(location)
    return pa.memory_map(_regular(path)) if path is not None else open_file(location)


@contextmanager
def reaching(location: str) -> Iterator[None]:
    """Turn what a file system raises inside the block into one error for the user that names the location.

    Raises:
        SpecError: the location is missing, forbidden, or a local file or folder that cannot be read.
        UnreachableError: a store failed otherwise.
    """
    try:
        yield
    except FileNotFoundError:
        raise SpecError(
            f"data.path: {printable(location)} does not exist - give the folder that holds your images"
        ) from None
    except OSError as error:
        reason = first_line(error)
        if local_path(location) is not None or isinstance(error, PermissionError):
            raise SpecError(f"data.path: {printable(location)} cannot be read ({reason}) - mend or remove it") from None
        raise UnreachableError(
            f"data.path: {printable(location)} does not answer ({reason}) - is the store up?"
        ) from None


def first_line(error: BaseException) -> str:
    """What an error says, in one printable line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(str(text).splitlines()[0])


def _regular(path: str) -> bytes:
    if not stat.S_ISREG(mode := os.stat(path).st_mode) and not stat.S_ISDIR(mode):  # noqa: PTH116 - bytes are needed
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device")
    return os.fsencode(path)


def _chained(location: str) -> SpecError:
    return SpecError(
        f"data.path: {printable(location)} chains stores (::), which is not read - give the last one itself, and "
        "unpack archives (tars are read as they are)"
    )


def _scheme(location: str) -> str | None:
    match = _SCHEME.match(location)
    return match[1].lower() if match else None


@lru_cache(maxsize=256)  # a client per folder is kept: opening one may ask the network where a bucket is
def _open_uri(location: str, key: str) -> tuple[Any, str]:
    scheme = _scheme(location)
    if scheme in NATIVE:
        try:
            filesystem, path = pafs.FileSystem.from_uri(location)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise SpecError(f"{key}: {location} cannot be opened ({first_line(error)}) - correct it") from None
        except OSError as error:
            raise UnreachableError(
                f"{key}: {location} cannot be opened ({first_line(error)}) - is the store up, its client installed?"
            ) from None
        if not path:
            raise SpecError(f"{key}: {location} names no bucket - give one, e.g. s3://bucket/folder")
        return filesystem, path
    if "::" in location:
        raise _chained(location)
    try:
        filesystem, path = importlib.import_module("fsspec.core").url_to_fs(location)
    except ImportError as error:
        package = BACKENDS.get(str(scheme), "the fsspec package for it")
        raise SpecError(
            f"{key}: {location} needs a package that is not installed ({first_line(error)}) - install {package}"
        ) from None
    except (ValueError, TypeError) as error:  # TypeError: a client that lacks its host
        raise SpecError(
            f"{key}: {location} cannot be opened ({first_line(error)}) - give a local path, or a URI such as "
            "s3://bucket/folder, gs://bucket/folder or hdfs://host/folder"
        ) from None
    return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem)), path
