"""A chart as a PDF page for papers: the stand-ins for the page's colours become those of paper."""

from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from transvae_dashboards.style import INK, MUTED, PAPER, RULE

ON_PAPER = {INK: "#1c1f23", MUTED: "#5d656e", RULE: "#dfe2e6", PAPER: "#ffffff"}
COLOURS = ("color", "edgecolor", "facecolor", "markerfacecolor", "markeredgecolor")


def in_print(figure: Figure) -> bytes:
    """The chart as PDF with embedded fonts; the figure is of no use on the screen afterwards."""
    for artist in figure.findobj():
        for name in COLOURS:
            _recolour(artist, name)
    file = io.BytesIO()
    with mpl.rc_context({"pdf.fonttype": 42}):
        FigureCanvasPdf(figure).print_pdf(file, metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return file.getvalue()


def _recolour(artist: Any, name: str) -> None:
    read, write = getattr(artist, f"get_{name}", None), getattr(artist, f"set_{name}", None)
    if read is None or write is None:
        return
    colour = read()
    if isinstance(colour, str | tuple) and (found := ON_PAPER.get(_hex(colour))):
        write(found)


def _hex(colour: Any) -> str:
    return "" if colour in ("none", "auto", "inherit") else to_hex(colour)
