"""The form of every table that the terminal shows; light imports only."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table


def console() -> Console:
    """Where results go: the terminal, or text as wide as the widest table."""
    # in a file or a pipe there is no width to fit: wide enough for the widest table
    return Console() if sys.stdout.isatty() else Console(width=140)


def table(*columns: tuple[str, str]) -> Table:
    """A table without lines; columns are (title, left or right)."""
    rows = Table(box=None, pad_edge=False)
    for name, justify in columns:
        rows.add_column(name, justify="right" if justify == "right" else "left")
    return rows
