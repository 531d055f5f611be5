"""One record of a journal as a line of text: JSON whose last key is the CRC-32 of what stands before it."""

from __future__ import annotations

import json
import zlib
from typing import Any

Record = dict[str, Any]
TORN = b"#torn"
"""Ends a line that a killed writer left unfinished; written by the next one."""
UNREADABLE = "unreadable"
"""The event that readers give in place of damaged or missing records, with the number of their line, or of the next."""
NUMBER = "n"
"""The key of a record's number in its journal, counted from 1."""
_KEY = b',"crc":"'


def line_of(record: Record) -> bytes:
    """The line of a record; NaN and infinity become null."""
    body = json.dumps(_finite(record), separators=(",", ":"), allow_nan=False).encode()[:-1]
    return body + _KEY + _end(body) + b"\n"


def record_of(line: bytes) -> Record | None:
    """The record of a line without its newline; None if the line is not what was written."""
    body, _, end = line.rpartition(_KEY)
    if not body or end != _end(body):
        return None
    record: Record = json.loads(body + b"}")
    return record


def _end(body: bytes) -> bytes:
    return b'%08x"}' % zlib.crc32(body)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return value
