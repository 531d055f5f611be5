"""What is left after the law: relative residuals of the size means over x, with the scatter of seeds and of sizes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from transvae_dashboards.figures.axes import log_axis, padded
from transvae_dashboards.figures.canvas import Panel, canvas
from transvae_dashboards.figures.scaling import AXIS
from transvae_dashboards.laws import in_order
from transvae_dashboards.style import COLOURS, MARKERS, MUTED, PAPER
from transvae_dashboards.tables import FAMILY_NAMES, SIZE_NAMES
from transvae_platform.fitting import FamilyFit, FitReport

RUN = 3
"""So many residuals of equal sign in a row are said: chance gives three in a row in a quarter of five (assumption)."""


def residual_panel(report: FitReport) -> Panel | None:
    """One chart of all families with a law; None where there is none."""
    fits = [fit for fit in in_order(report) if fit.residuals]
    if not fits:
        return None
    values = [100 * value for fit in fits for value in fit.residuals.values()]
    label = "Residuals of the size means in percent: " + "; ".join(_words(fit) for fit in fits)
    with canvas(f"residuals-{report.x_name}", label) as drawing:
        axes = drawing.axes
        seeds = [fit.seed_sd for fit in fits if fit.seed_sd]
        misfits = [fit.variance.s2**0.5 for fit in fits if fit.variance]
        for widths, alpha in ((misfits, 0.08), (seeds, 0.16)):
            if widths:
                axes.axhspan(-100 * max(widths), 100 * max(widths), color=MUTED, alpha=alpha, lw=0)
        axes.axhline(0, color=MUTED, lw=0.8)
        for fit in fits:
            xs, ys = [size.x for size in fit.sizes], [100 * fit.residuals[size.size] for size in fit.sizes]
            axes.plot(xs, ys, marker=MARKERS[fit.family], color=COLOURS[fit.family], ms=5.5, lw=0.8, mec=PAPER,
                      mew=0.6)  # fmt: skip
            for size, x, y in zip(fit.sizes, xs, ys, strict=True):
                axes.annotate(
                    SIZE_NAMES.get(size.size, size.size), (x, y), xytext=(0, 5 if y >= 0 else -11), ha="center",
                    textcoords="offset points", fontsize=7.5, color=COLOURS[fit.family],
                )  # fmt: skip
        name, units = AXIS[report.x_name]
        log_axis(axes.xaxis, *padded([size.x for fit in fits for size in fit.sizes], 0.06), units=units)
        reach = 1.25 * max(map(abs, [*values, *(100 * width for width in seeds + misfits)])) or 1.0
        axes.set_ylim(-reach, reach)
        axes.set_xlabel(name)
        axes.set_ylabel("residual, %")
    return drawing.panel[0]


def runs_of_sign(fit: FamilyFit) -> int:
    """The longest row of residuals with equal sign, by size."""
    signs = [fit.residuals[size.size] > 0 for size in fit.sizes]
    longest = current = 1
    for before, after in pairwise(signs):
        current = current + 1 if before == after else 1
        longest = max(longest, current)
    return longest


def _words(fit: FamilyFit) -> str:
    numbers: Sequence[str] = [f"{size} {100 * value:+.2f}" for size, value in fit.residuals.items()]
    return f"{FAMILY_NAMES[fit.family]} {', '.join(numbers)}"
