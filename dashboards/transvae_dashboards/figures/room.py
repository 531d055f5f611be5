"""How much of a figure its axes get: all that their labels leave, from the widths of the texts themselves.

Matplotlib's constrained layout measures every text four times per chart and was 60 % of drawing a page (measured).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties
from matplotlib.transforms import ScaledTranslation

PAD, LINE = 3.0, 1.3
"""Points around everything, as constrained layout has them; height of a line of text in units of its size."""
FITTED = "fitted"


def fit(axes: Any) -> None:
    """Place the axes in their figure, and their labels beside the ticks'; a second call does nothing."""
    if axes.get_label() == FITTED:
        return
    axes.set_label(FITTED)
    left, bottom = _left(axes), _bottom(axes)
    title = axes.get_title(loc="left")
    top = PAD + (8 + LINE * axes.title.get_fontsize() * (1 + title.count("\n")) if title else LINE * 4)
    _, wide = _labels(axes.xaxis)
    right = PAD + max(wide[-1:], default=0.0) / 2
    width, height = (72 * inches for inches in axes.figure.get_size_inches())
    axes.set_position((left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height))


def make_room(axes: Any, texts: Sequence[Any]) -> None:
    """Narrow fitted axes until texts at their right end stand inside the figure."""
    figure = axes.figure
    renderer = RendererAgg(figure.bbox.width, figure.bbox.height, figure.dpi)
    edge = max(text.get_window_extent(renderer).x1 for text in texts) + PAD * figure.dpi / 72
    if edge > figure.bbox.width:
        place = axes.get_position()
        # a label at the end of a line moves with the axes' right edge, all others less
        width = place.width - (edge - figure.bbox.width) / figure.bbox.width
        axes.set_position((place.x0, place.y0, width, place.height))


def _left(axes: Any) -> float:
    """Points left of the axes: tick labels, and the name of the axis, which is put there."""
    _, widths = _labels(axes.yaxis)
    ticks = (3.5 + max(widths)) if widths else 0.0
    name = axes.yaxis.label
    if not name.get_text():
        return PAD + ticks
    _beside(axes, axes.yaxis, -(ticks + 4), 0)
    return float(PAD + ticks + 4 + LINE * name.get_fontsize())


def _bottom(axes: Any) -> float:
    sizes, _ = _labels(axes.xaxis)
    ticks = (3.5 + LINE * max(sizes)) if sizes else 0.0
    name = axes.xaxis.label
    if not name.get_text():
        return PAD + ticks
    _beside(axes, axes.xaxis, 0, -(ticks + 2))
    return float(PAD + ticks + 2 + LINE * name.get_fontsize() * (1 + name.get_text().count("\n")))


def _beside(axes: Any, axis: Any, right: float, up: float) -> None:
    """Put an axis's name so many points from the axes: by itself it would look for room at every drawing."""
    moved = axes.transAxes + ScaledTranslation(right / 72, up / 72, axes.figure.dpi_scale_trans)
    axis.set_label_coords(*((0, 0.5) if right else (0.5, 0)), transform=moved)


def _labels(axis: Any) -> tuple[list[float], list[float]]:
    """Font sizes and widths of an axis's tick labels, in points."""
    places = axis.get_majorticklocs()
    low, high = sorted(axis.get_view_interval())
    formatter = axis.get_major_formatter()
    texts = [text for place, text in zip(places, formatter.format_ticks(places), strict=False) if low <= place <= high]
    if not texts:
        return [], []
    label = axis.majorTicks[0].label1
    return [label.get_fontsize()], [_width(text, label.get_fontsize()) for text in texts]


@lru_cache(maxsize=4096)
def _width(text: str, size: float) -> float:
    renderer = RendererAgg(1, 1, 72)
    return max(
        float(renderer.get_text_width_height_descent(line, FontProperties(family="DejaVu Sans", size=size), False)[0])
        for line in text.split("\n")
    )
