"""Curves of two trials, or of one family in two studies, in one chart: the first solid, the second dashed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from transvae_dashboards.figures.axes import end_labels
from transvae_dashboards.figures.canvas import Panel, canvas
from transvae_dashboards.figures.curves import Look, draw_line, frame, limits_of, lines_of, name_of
from transvae_dashboards.follow.study import FollowedStudy
from transvae_dashboards.style import COLOURS, INK
from transvae_dashboards.tables import FAMILY_NAMES
from transvae_platform.study.state import TrialState


def comparison_panel(
    sides: Sequence[tuple[FollowedStudy, TrialState]], look: Look, titles: Sequence[str]
) -> Panel | None:
    """None where no side has the metric. Curves of the study of the first side are solid, all others dashed.

    Of two trials of one study the second is dashed.
    """
    found = [(study, trial, lines_of(study, [trial], look)) for study, trial in sides]
    drawn = [(study, trial, lines[0]) for study, trial, lines in found if lines]
    if not drawn:
        return None
    lines = [line for _, _, line in drawn]
    family = sides[0][1].trial.family
    same_family = all(trial.trial.family == family for _, trial in sides)
    with canvas(f"compare-{look.metric}-{family}", f"{look.metric}: solid {titles[0]}, dashed {titles[1]}") as drawing:
        axes, ends = drawing.axes, []
        for study, trial, line in drawn:
            first = (study.name, trial.trial.id) == (sides[0][0].name, sides[0][1].trial.id) if len(sides) == 2 else (
                study.name == sides[0][0].name
            )  # fmt: skip
            colour = COLOURS.get(trial.trial.family, INK)
            draw_line(axes, line, colour, style="-" if first else (0, (4, 2)))
            ends.append((*line.last, name_of(trial), colour))
        frame(axes, look, limits_of(lines, replace(look)))
        axes.set_title(FAMILY_NAMES.get(family, family) if same_family else look.metric, color=INK)
        end_labels(axes, ends)
    return drawing.panel[0]
