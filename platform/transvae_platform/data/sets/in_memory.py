"""Files that the memory can hold: Linux is asked to read them in large pieces, which it keeps in large pages.

Records that are read in a shuffled order come to the page cache in pages of 4 KiB, and copying an image of 196 kB out
of those took 14 to 18 us, against 10 us out of large ones (2 cores, Linux 6.18, ext4). A record that is asked for
brings 2 MiB of its file with it: good where all of it stays, a waste of the disk where the memory has to let go of it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

import pyarrow as pa

SHARE = 0.5  # of the machine's memory (assumption: the rest is for the training, and for other data sets)
OWN_GROUPS = Path("/proc/self/cgroup")
"""The control groups of this process, one per line: `0::/path` of version 2, `4:memory:/path` of version 1."""
GROUPS = Path("/sys/fs/cgroup")


def fits_in_memory(count: int) -> bool:
    """Whether so many bytes are likely to stay in the page cache: of the machine, or of the container on it."""
    return count <= SHARE * min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *_limits()])


def _limits() -> Iterator[int]:
    """What each control group around this process may hold in memory; none where the system has no such groups."""
    with suppress(FileNotFoundError):
        for line in OWN_GROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in ("", "memory"):
                root, file = (GROUPS / "memory", "memory.limit_in_bytes") if controllers else (GROUPS, "memory.max")
                own = PurePosixPath(path)
                for group in (own, *own.parents):  # outer ones bind too; in a container `/` may be the container itself
                    with suppress(OSError, ValueError):  # not seen from here, or `max`: none
                        yield int((root / group.relative_to("/") / file).read_text())


def mapped_in_large_pages(path: Path) -> pa.Buffer:
    """The bytes of a file, in large pages where the system and the file system have them.

    Raises:
        FileNotFoundError.
    """
    with pa.memory_map(str(path)) as file:  # unlike one of Python's, it keeps no descriptor: shards may be thousands
        buffer = file.read_buffer()
    if advice := getattr(mmap, "MADV_HUGEPAGE", None):  # of Linux; where it is built without, nothing happens
        ctypes.CDLL(None).madvise(ctypes.c_void_p(buffer.address), ctypes.c_size_t(buffer.size), advice)
    return buffer
