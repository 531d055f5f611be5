"""PSNR against parameters or training FLOPs: every finished trial a dot, the means of the sizes joined."""

from __future__ import annotations

from collections.abc import Sequence

from transvae_dashboards.figures.axes import end_labels, log_axis, padded
from transvae_dashboards.figures.canvas import Panel, canvas
from transvae_dashboards.figures.scaling import AXIS
from transvae_dashboards.laws import XName
from transvae_dashboards.style import COLOURS, MARKERS, MUTED, PAPER
from transvae_dashboards.tables import FAMILIES, FAMILY_NAMES, SIZE_NAMES, SIZES, X_WORDS, TrialRow, mean


def quality_panel(rows: Sequence[TrialRow], x_name: XName = "parameters") -> Panel | None:
    """None before a trial of a base model has finished."""
    shown = [row for row in rows if row.finished and row.variant == "base" and row.psnr is not None]
    if not shown:
        return None
    families = [family for family in FAMILIES if any(row.family == family for row in shown)]
    names, (title, units) = ", ".join(FAMILY_NAMES[family] for family in families), AXIS[x_name]
    with canvas(f"quality-{x_name}", f"PSNR of held-out images against {X_WORDS[x_name]}: {names}") as drawing:
        axes, ends = drawing.axes, []
        tops: dict[str, tuple[float, float]] = {}
        for family in families:
            colour, marker = COLOURS[family], MARKERS[family]
            own = [row for row in shown if row.family == family]
            axes.plot([x_of(row, x_name) for row in own], [row.psnr for row in own], marker=marker, color=colour, ms=3,
                      alpha=0.45, mew=0, ls="none")  # fmt: skip
            means = []
            for size in SIZES:
                cell = [row for row in own if row.size == size]
                value = mean(row.psnr for row in cell)
                if value is None:
                    continue
                means.append((x_of(cell[0], x_name), value))
                tops[size] = max(tops.get(size, means[-1]), means[-1], key=lambda point: point[1])
            axes.plot(*zip(*means, strict=True), marker=marker, color=colour, ms=5.5, lw=1, mec=PAPER, mew=0.6)
            ends.append((*means[-1], FAMILY_NAMES[family], colour))
        # the families' markers of one size lie close together: one letter for all of them, above the best
        for size, top in tops.items():
            axes.annotate(SIZE_NAMES[size], top, xytext=(0, 6), textcoords="offset points", ha="center", color=MUTED)
        log_axis(axes.xaxis, *padded([x_of(row, x_name) for row in shown]), units=units)
        axes.margins(y=0.12)
        axes.set_xlabel(title)
        axes.set_ylabel("PSNR, dB")
        end_labels(axes, ends)
    return drawing.panel[0]


def x_of(row: TrialRow, x_name: XName) -> float:
    """A trial's place on the axis."""
    return float(row.parameters if x_name == "parameters" else row.training_flops)
