"""How well the data determine alpha and E: the squared error along alpha, and the E that belongs to each alpha."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from transvae_dashboards.figures.axes import end_labels
from transvae_dashboards.figures.canvas import Panel, canvas
from transvae_dashboards.figures.forest import ALPHA_SHOWN
from transvae_dashboards.laws import in_order
from transvae_dashboards.style import COLOURS, MARKERS, MUTED, PAPER
from transvae_dashboards.tables import FAMILY_NAMES, X_WORDS
from transvae_platform.fitting import FamilyFit, FitReport
from transvae_platform.fitting.forms import FloatArray
from transvae_platform.fitting.solve import ALPHA_MIN, project

SHOWN = 5.0
"""Squared errors in units of their threshold; beyond, nobody looks (assumption)."""
SAMPLES = 300


@dataclass(frozen=True)
class Profile:
    """A family's law along alpha: squared errors in units of their threshold above the least, and E."""

    family: str
    alpha: float
    E: float
    excess: FloatArray
    floor: FloatArray


def profile_panels(report: FitReport) -> list[Panel]:
    """Two charts, of the families that have a law with an interval; none without one."""
    alphas = np.geomspace(max(ALPHA_MIN, 0.01), ALPHA_SHOWN, SAMPLES)
    found = [profile for fit in in_order(report) if (profile := _profile(fit, alphas)) is not None]
    return [_excess(report, alphas, found), _ridge(report, alphas, found)] if found else []


def _profile(fit: FamilyFit, alphas: FloatArray) -> Profile | None:
    if fit.problem is None or fit.solution is None or fit.alphas is None or fit.alpha is None or fit.E is None:
        return None
    part = project(fit.problem, alphas)
    excess = (part.sse - fit.solution.sse) / (fit.alphas.threshold - fit.solution.sse)
    return Profile(fit.family, fit.alpha, fit.E, excess, part.E)


def _excess(report: FitReport, alphas: FloatArray, found: Sequence[Profile]) -> Panel:
    label = f"Squared error along alpha over {X_WORDS[report.x_name]}, 1 is the threshold"
    with canvas(f"profile-{report.x_name}", label) as drawing:
        axes, ends = drawing.axes, []
        for profile in found:
            seen, colour = profile.excess <= SHOWN, COLOURS[profile.family]
            axes.plot(alphas[seen], profile.excess[seen], color=colour, lw=1.3)
            end = (float(alphas[seen][-1]), float(profile.excess[seen][-1]))
            ends.append((*end, FAMILY_NAMES[profile.family], colour))
        axes.axhline(1, color=MUTED, lw=0.8, ls="--")
        axes.set_ylim(0, SHOWN)
        axes.set_xlim(0, _reach(alphas, found))
        axes.set_xlabel("alpha")
        axes.set_title(f"Excess of squared errors; below 1: in the {100 * report.level:.0f} % interval", fontsize=8.5)
        end_labels(axes, ends)
    return drawing.panel[0]


def _ridge(report: FitReport, alphas: FloatArray, found: Sequence[Profile]) -> Panel:
    label = f"E that belongs to each alpha over {X_WORDS[report.x_name]}, strong inside the interval"
    with canvas(f"ridge-{report.x_name}", label) as drawing:
        axes, ends, reach = drawing.axes, [], _reach(alphas, found)
        for profile in found:
            colour = COLOURS[profile.family]
            axes.plot(alphas, profile.floor, color=colour, lw=0.7, alpha=0.5)
            axes.plot(alphas, np.where(profile.excess <= 1, profile.floor, np.nan), color=colour, lw=2.2)
            if profile.alpha <= ALPHA_SHOWN:
                axes.plot([profile.alpha], [profile.E], marker=MARKERS[profile.family], color=colour, ms=6, mec=PAPER,
                          mew=0.6)  # fmt: skip
            ends.append((reach, float(np.interp(reach, alphas, profile.floor)), FAMILY_NAMES[profile.family], colour))
        axes.set_xlim(0, reach)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("alpha")
        axes.set_title("E at each alpha; strong: in the interval; marker: the fit", fontsize=8.5)
        end_labels(axes, ends)
    return drawing.panel[0]


def _reach(alphas: FloatArray, found: Sequence[Profile]) -> float:
    """The largest alpha shown: a little beyond what any family's data still allow."""
    seen = [float(alphas[profile.excess <= SHOWN][-1]) for profile in found]
    return min(1.15 * max(seen), ALPHA_SHOWN)
