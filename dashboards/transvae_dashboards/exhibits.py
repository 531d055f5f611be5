"""The charts and tables of a page, collected while it is drawn, so that files for papers hold exactly what it shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sheet:
    """One table: what it shows, its header, and its rows (cells as they stand on the page)."""

    label: str
    head: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]


@dataclass
class Exhibits:
    """What one page showed, in its order."""

    pdf: bool = False
    """Whether charts are to be drawn as PDF as well."""
    panels: list[Any] = field(default_factory=list)
    sheets: list[Sheet] = field(default_factory=list)


_collecting: ContextVar[Exhibits | None] = ContextVar("collecting", default=None)


@contextmanager
def collecting(*, pdf: bool = False) -> Iterator[Exhibits]:
    """Collect what is drawn inside the block."""
    found = Exhibits(pdf)
    token = _collecting.set(found)
    try:
        yield found
    finally:
        _collecting.reset(token)


def wants_pdf() -> bool:
    """Whether charts drawn now are to be PDF files, too."""
    collector = _collecting.get()
    return collector is not None and collector.pdf


def show_panel(panel: Any) -> None:
    """A chart stands on the page."""
    if (collector := _collecting.get()) is not None:
        collector.panels.append(panel)


def show_table(label: str, head: Sequence[str], body: Sequence[Sequence[str]]) -> None:
    """A table stands on the page."""
    if (collector := _collecting.get()) is not None:
        collector.sheets.append(Sheet(label, tuple(head), tuple(tuple(row) for row in body)))
