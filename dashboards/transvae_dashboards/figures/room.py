"""How much of a figure its axes get: all that their labels leave, measured once.

Matplotlib's constrained layout measures every text four times per chart and was 60 % of drawing a page (measured).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.backends.backend_agg import RendererAgg

PAD = 3.0 / 72
"""Inches around everything, as constrained layout has them."""
FITTED = "fitted"


def fit(axes: Any) -> None:
    """Place the axes in their figure; a second call does nothing."""
    if axes.get_label() == FITTED:
        return
    figure = axes.figure
    renderer, pad = _renderer(figure), PAD * figure.dpi
    outer, inner = axes.get_tightbbox(renderer), axes.get_window_extent(renderer)
    left, bottom = inner.x0 - outer.x0 + pad, inner.y0 - outer.y0 + pad
    right, top = outer.x1 - inner.x1 + pad, outer.y1 - inner.y1 + pad
    width, height = figure.bbox.width, figure.bbox.height
    axes.set_position((left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height))
    axes.set_label(FITTED)


def make_room(axes: Any, texts: Sequence[Any]) -> None:
    """Narrow fitted axes until texts at their right end stand inside the figure."""
    figure = axes.figure
    renderer = _renderer(figure)
    edge = max(text.get_window_extent(renderer).x1 for text in texts) + PAD * figure.dpi
    if edge > figure.bbox.width:
        place = axes.get_position()
        # a label at the end of a line moves with the axes' right edge, all others less
        width = place.width - (edge - figure.bbox.width) / figure.bbox.width
        axes.set_position((place.x0, place.y0, width, place.height))


def _renderer(figure: Any) -> RendererAgg:
    return RendererAgg(figure.bbox.width, figure.bbox.height, figure.dpi)
