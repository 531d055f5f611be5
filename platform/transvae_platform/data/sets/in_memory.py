"""Files that the memory can hold: Linux is asked to read them in large pieces, which it keeps in large pages.

Records that are read in a shuffled order come to the page cache in pages of 4 KiB, and copying an image of 196 kB out
of those took 14 to 18 us, against 10 us out of large ones (2 cores, Linux 6.18, ext4). A record that is asked for
brings 2 MiB of its file with it: good where all of it stays, a waste of the disk where the memory has to let go of it.
"""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

SHARE = 0.5  # of the machine's memory (assumption: the rest is for the training, and for other data sets)


def fits_in_memory(count: int) -> bool:
    """Whether so many bytes are likely to stay in the page cache."""
    return count <= SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def mapped_in_large_pages(path: Path) -> pa.Buffer:
    """The bytes of a file, in large pages where the system and the file system have them.

    Raises:
        FileNotFoundError, pa.ArrowInvalid (the file is empty).
    """
    with path.open("rb") as file:
        try:
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise pa.ArrowInvalid(str(error)) from None
    if advice := getattr(mmap, "MADV_HUGEPAGE", None):  # of Linux
        with suppress(OSError):  # built without large pages
            memory.madvise(advice)
    return pa.py_buffer(memory)
