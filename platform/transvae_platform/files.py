"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside it to write to; when the block ends its bytes reach the disk, and it gets its name.

    On an error nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.part-{os.getpid()}{path.suffix}")  # NumPy and Pillow go by the suffix
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
