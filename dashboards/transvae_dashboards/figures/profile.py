"""How well the data determine alpha and E: the squared error along alpha, and the E that belongs to each alpha."""

from __future__ import annotations

import numpy as np

from transvae_dashboards.figures.axes import end_labels
from transvae_dashboards.figures.canvas import Panel, canvas
from transvae_dashboards.figures.forest import ALPHA_SHOWN
from transvae_dashboards.laws import in_order
from transvae_dashboards.style import COLOURS, MARKERS, MUTED, PAPER
from transvae_dashboards.tables import FAMILY_NAMES, X_WORDS
from transvae_platform.fitting import FitReport
from transvae_platform.fitting.solve import ALPHA_MIN, project

SHOWN = 5.0
"""Squared errors in units of their threshold; beyond, nobody looks (assumption)."""
SAMPLES = 300


def profile_panels(report: FitReport) -> list[Panel]:
    """Two charts, of the families that have a law with an interval; none without one."""
    fits = [
        fit for fit in in_order(report) if fit.problem and fit.solution and fit.alphas and fit.variance and fit.alpha
    ]
    if not fits:
        return []
    alphas = np.geomspace(max(ALPHA_MIN, 0.01), ALPHA_SHOWN, SAMPLES)
    over, panels = X_WORDS[report.x_name], []
    with canvas(f"profile-{report.x_name}", f"Squared error along alpha over {over}, 1 is the threshold") as drawing:
        axes, ends = drawing.axes, []
        for fit in fits:
            excess = (project(fit.problem, alphas).sse - fit.solution.sse) / (fit.alphas.threshold - fit.solution.sse)
            seen = excess <= SHOWN
            axes.plot(alphas[seen], excess[seen], color=COLOURS[fit.family], lw=1.3)
            ends.append(
                (float(alphas[seen][-1]), float(excess[seen][-1]), FAMILY_NAMES[fit.family], COLOURS[fit.family])
            )
        axes.axhline(1, color=MUTED, lw=0.8, ls="--")
        axes.set_ylim(0, SHOWN)
        axes.set_xlim(0, ALPHA_SHOWN)
        axes.set_xlabel("alpha")
        axes.set_title(f"Excess of squared errors; below 1: in the {100 * report.level:.0f} % interval", fontsize=8.5)
        end_labels(axes, ends)
    panels += drawing.panel
    with canvas(
        f"ridge-{report.x_name}", f"E that belongs to each alpha over {over}, strong inside the interval"
    ) as drawing:
        axes, ends = drawing.axes, []
        for fit in fits:
            part, colour = project(fit.problem, alphas), COLOURS[fit.family]
            inside = part.sse <= fit.alphas.threshold
            axes.plot(alphas, part.E, color=colour, lw=0.7, alpha=0.5)
            axes.plot(alphas, np.where(inside, part.E, np.nan), color=colour, lw=2.2)
            if fit.alpha <= ALPHA_SHOWN:
                axes.plot([fit.alpha], [fit.E], marker=MARKERS[fit.family], color=colour, ms=6, mec=PAPER, mew=0.6)
            ends.append((ALPHA_SHOWN, float(part.E[-1]), FAMILY_NAMES[fit.family], colour))
        axes.set_xlim(0, ALPHA_SHOWN)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("alpha")
        axes.set_title("E at each alpha; strong: in the interval; marker: the fit", fontsize=8.5)
        end_labels(axes, ends)
    return panels + drawing.panel
