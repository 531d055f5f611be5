"""Small JSON files that other files are found by: whole after a power failure, or as if they had never been written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_note(path: Path, values: dict[str, Any]) -> None:
    """Write the file atomically; its bytes reach the disk before its name does."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w") as file:
            json.dump(values, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_note(path: Path) -> dict[str, Any] | None:
    """What the file says; None if it is not there or damaged, which are the same to whoever can write it again."""
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError):  # ValueError: no JSON, or no UTF-8
        return None
    return values if isinstance(values, dict) else None
