"""Text that is safe to print: names come from strangers' files."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def harmless(text: str) -> str:
    """A text with its control characters spelt out, but for tabs and line ends."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def one_line(text: str) -> str:
    """As `harmless`, in one line whatever a file's name holds."""
    return harmless(text).replace("\n", "\\n")
