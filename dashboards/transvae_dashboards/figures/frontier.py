"""Compute against what it buys: the size of least loss at each compute, and the lower envelope of all trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from transvae_dashboards import formats
from transvae_dashboards.figures.axes import end_labels, log_axis, padded
from transvae_dashboards.figures.canvas import Panel, canvas
from transvae_dashboards.figures.scaling import AXIS
from transvae_dashboards.follow.thinning import Floats
from transvae_dashboards.style import COLOURS, INK, MARKERS, PAPER
from transvae_dashboards.tables import FAMILY_NAMES, METRIC_NAMES, TrialRow
from transvae_platform.fitting.views.isoflop import IsoFlop

Points = Sequence[tuple[float, float, float]]


def isoflop_panel(runs: Mapping[str, Points], found: Mapping[str, IsoFlop], metric: str) -> Panel:
    """Loss over parameters, a line per compute level of each family; filled: the optimum of a level."""
    name = METRIC_NAMES.get(metric, metric)
    with canvas("isoflop", f"{name} over parameters at equal training FLOPs") as drawing:
        axes, sizes, losses, ends = drawing.axes, [], [], []
        for family, answer in found.items():
            colour, marker = COLOURS[family], MARKERS[family]
            for level in answer.levels:
                near = sorted((n, loss) for c, n, loss in runs[family] if abs(np.log(c / level.flops)) < 0.02)
                if not near:
                    continue
                axes.plot(*zip(*near, strict=True), color=colour, marker=marker, mfc="none", ms=3.5, lw=0.8)
                if level.best_size is not None:
                    axes.plot(
                        [level.best_size], [level.best_loss], color=colour, marker=marker, ms=6, mec=PAPER, mew=0.6
                    )
                ends.append((*near[-1], formats.scaled(level.flops), colour))
                sizes += [n for n, _ in near]
                losses += [loss for _, loss in near]
        log_axis(axes.xaxis, *padded(sizes))
        log_axis(axes.yaxis, *padded(losses, 0.1))
        axes.set_xlabel("parameters")
        axes.set_ylabel(name)
        end_labels(axes, ends)
    return drawing.panel[0]


def frontier_panel(rows: Sequence[TrialRow], envelope: tuple[Floats, Floats], metric: str) -> Panel:
    """Every training over its FLOPs, and the steps of the lower envelope over all families."""
    name = METRIC_NAMES.get(metric, metric)
    label = f"{name} over training FLOPs of {len(rows)} trainings; {len(envelope[0])} of them on the frontier"
    with canvas("frontier", label) as drawing:
        axes = drawing.axes
        for family in dict.fromkeys(row.family for row in rows):
            own = [row for row in rows if row.family == family]
            axes.plot(
                [r.training_flops for r in own], [r.metric(metric) for r in own], color=COLOURS[family], ls="none",
                marker=MARKERS[family], ms=4, alpha=0.6, mew=0, label=FAMILY_NAMES[family],
            )  # fmt: skip
        axes.step(*envelope, where="post", color=INK, lw=1.1)
        _, units = AXIS["training_flops"]
        log_axis(axes.xaxis, *padded([row.training_flops for row in rows]), units=units)
        log_axis(axes.yaxis, *padded([float(row.metric(metric) or 1.0) for row in rows], 0.1))
        axes.set_xlabel("training FLOPs")
        axes.set_ylabel(name)
        axes.legend(frameon=False, fontsize=8, labelcolor="linecolor")
    return drawing.panel[0]
