"""From a matplotlib figure to inline SVG: real text, colours of the page, equal bytes for equal data.

Every panel is an SVG of its own, so that the page and not the chart decides how many stand beside each other.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from transvae_dashboards.exhibits import wants_pdf
from transvae_dashboards.figures.printing import in_print
from transvae_dashboards.figures.room import fit
from transvae_dashboards.markup import Html, escape
from transvae_dashboards.style import INK, MUTED, RULE, VARIABLES

WIDTH, HEIGHT = 5.2, 3.3
"""Of a panel in inches: half the page's width on a desktop, its full width on a telephone."""
SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 8.5, "text.color": INK, "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED, "axes.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.grid.which": "major", "grid.color": RULE, "grid.linewidth": 0.6, "axes.axisbelow": True,
    "axes.facecolor": "none", "figure.facecolor": "none", "xtick.color": MUTED, "ytick.color": MUTED,
    "xtick.major.size": 0, "ytick.major.size": 0, "xtick.minor.size": 0, "ytick.minor.size": 0,
    # ticks of no length take time all the same
    "xtick.bottom": False, "ytick.left": False, "xtick.minor.visible": False, "ytick.minor.visible": False,
    "axes.titlesize": 9.5, "axes.titlelocation": "left",
    "axes.titleweight": "bold", "axes.titlepad": 8, "axes.titley": 1.0, "path.simplify": True,
    "axes.unicode_minus": True, "text.parse_math": False,
}  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """One chart: its SVG, and what it shows in words (the label for screen readers)."""

    name: str
    label: str
    svg: Html
    pdf: bytes | None = None
    """Where files are wanted (`exhibits.py`)."""
    of: str = ""
    """The family that a panel of small multiples is about."""
    caption: str = ""
    """What stands below it on the page (`sections/charts.py`)."""


@dataclass
class Canvas:
    """A figure with one pair of axes while it is drawn; `panel` holds the result afterwards."""

    figure: Figure
    axes: Any
    panel: list[Panel] = field(default_factory=list)


@contextmanager
def canvas(name: str, label: str, width: float = WIDTH, height: float = HEIGHT, *, of: str = "") -> Iterator[Canvas]:
    """Draw on `canvas.axes` inside the block; the finished panel is in `canvas.panel[0]` after it."""
    # hashsalt decides the ids that matplotlib invents: fixed, so that equal data give equal bytes
    with mpl.rc_context({**SETTINGS, "svg.hashsalt": name}):
        figure = Figure(figsize=(width, height))
        drawing = Canvas(figure, figure.add_subplot())
        yield drawing
        fit(drawing.axes)
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
        pdf = in_print(figure) if wants_pdf() else None
    drawing.panel.append(Panel(name, label, _inline(buffer.getvalue(), name, label), pdf, of))


def _inline(svg: str, name: str, label: str) -> Html:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    opening, rest = svg.split(">", 1)
    view = re.search(r'viewBox="[^"]*"', opening)
    assert view is not None, "matplotlib writes a viewBox"
    # several charts share one page, so their ids must differ
    rest = re.sub(r'\bid="', f'id="{name}-', rest)
    rest = rest.replace(' target="_blank"', "")  # lines that lead to a trial do so in the same window
    rest = re.sub(r'(?<!<a xlink:)href="#', f'href="#{name}-', rest)  # but for lines that lead to a place of the page
    rest = re.sub(r"url\(#", f"url(#{name}-", rest)
    rest = re.sub(r"font: ([^;\"]*?px) [^;\"]*", r"font: \1 var(--sans, sans-serif)", rest)
    for stand_in, variable in VARIABLES.items():
        rest = rest.replace(stand_in, variable)
    return Html(f'<svg class="chart" {view.group()} role="img" aria-label="{escape(label)}">{rest.strip()}')
