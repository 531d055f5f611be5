"""Curves of two trials, or of one family in two studies, in one chart: the first solid, the second dashed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from transvae_dashboards.figures.axes import end_labels
from transvae_dashboards.figures.canvas import Panel, canvas
from transvae_dashboards.figures.curves import Look, draw_lines, frame, limits_of, lines_of, name_of
from transvae_dashboards.follow.study import FollowedStudy
from transvae_dashboards.style import COLOURS, INK
from transvae_dashboards.tables import FAMILY_NAMES
from transvae_platform.study.state import TrialState

Side = tuple[FollowedStudy, TrialState]


def comparison_panel(first: Sequence[Side], second: Sequence[Side], look: Look, titles: Sequence[str]) -> Panel | None:
    """Curves of the first side solid, of the second dashed; None where neither has the metric."""
    dashes = [(side, style) for sides, style in ((first, "-"), (second, (0, (4, 2)))) for side in sides]
    drawn = [(trial, lines[0], style) for (study, trial), style in dashes if (lines := lines_of(study, [trial], look))]
    if not drawn:
        return None
    families = {trial.trial.family for trial, _, _ in drawn}
    family = next(iter(families)) if len(families) == 1 else ""
    label = f"{look.metric}: solid {titles[0]}, dashed {titles[1]}"
    with canvas(f"compare-{look.metric}-{family or 'trials'}", label, of=family) as drawing:
        axes = drawing.axes
        ends: dict[tuple[str, str], list[tuple[float, float]]] = {}
        draw_lines(axes, [line for _, line, _ in drawn], styles=[style for _, _, style in drawn])
        for trial, line, _ in drawn:
            colour = COLOURS.get(trial.trial.family, INK)
            name = name_of(trial) if len(dashes) > 2 else f"{trial.trial.label} s{trial.trial.seed}"
            ends.setdefault((name, colour), []).append(line.last)
        frame(axes, look, limits_of([line for _, line, _ in drawn], look))
        axes.set_title(FAMILY_NAMES.get(family, family) or look.metric, color=INK)
        # the seeds of a size, and the two sides of it, share one label: the dashes tell the sides apart
        end_labels(axes, [
            (max(x for x, _ in points), statistics.fmean(y for _, y in points), name, colour)
            for (name, colour), points in ends.items()
        ])  # fmt: skip
    return drawing.panel[0]
