"""One record of a journal as a line of text: JSON whose last key is a CRC-32.

`crc` is that of what stands before it; `own`, in the journal of a trial, that of the trial's id and what stands before.
"""

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
_KEYS = {True: b',"own":"', False: b',"crc":"'}
"""What stands before the checksum of a record that has an owner, and of one that has none."""


def line_of(record: Record, owner: str = "") -> bytes:
    """The line of a record, in the journal of the trial `owner` or in another; NaN and infinity become null."""
    body = json.dumps(_finite(record), separators=(",", ":"), allow_nan=False).encode()[:-1]
    return body + _KEYS[bool(owner)] + _end(body, owner) + b"\n"


def record_of(line: bytes, owner: str = "") -> Record | None:
    """The record of a line without its newline; None if the line is not what was written, or is of another owner.

    A record without owner is anybody's: earlier versions of this project wrote none.
    """
    for owned, key in _KEYS.items():
        body, _, end = line.rpartition(key)
        if body and end == _end(body, owner if owned else ""):
            record: Record = json.loads(body + b"}")
            return record
    return None


def _end(body: bytes, owner: str) -> bytes:
    return b'%08x"}' % zlib.crc32(body, zlib.crc32(owner.encode()))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return value
