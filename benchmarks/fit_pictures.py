"""Draws the figures of docs/fits.md from a table of runs of four families.

    python benchmarks/fit_pictures.py RUNS.csv OUTPUT.png [metric=val/l1]

Above: means, law and 90 % band of each family (dashed beyond its sizes), hollow the largest size as predicted from the
others. Below: gain per tenfold parameters with its interval, the held-out size's errors beside the naive rivals', and
how E and alpha move together (parametric bootstrap, a picture).
"""

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np

from transvae_platform.fitting import FitReport, Request, read_runs
from transvae_platform.fitting.answers.families import report_of
from transvae_platform.fitting.answers.prepare import prepare
from transvae_platform.fitting.picture import parametric_draws

mpl.use("Agg")
from matplotlib import pyplot as plt

COLOURS = {"transvae": "#0b6e99", "cnn": "#b5542b", "vit": "#4b7a2b", "swin": "#7a4b8f"}


def main() -> None:
    options = {"metric": "val/l1"} | dict(a.split("=") for a in sys.argv[3:])
    request = Request(columns={"N": "parameters"}, loss=options["metric"])
    (prepared,) = prepare(read_runs(Path(sys.argv[1])), request, ("N",), whole_curves=False)
    report = report_of(prepared)
    figure = plt.figure(figsize=(10, 5.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(3, 2))
    for axes, fit in zip(above.subplots(1, len(report.families), sharey=True), report.families, strict=True):
        family(axes, fit)
    above.supylabel(options["metric"], fontsize=9)
    gains, errors, ridge = below.subplots(1, 3)
    ridge_panel(ridge, report)
    gain_panel(gains, report)
    error_panel(errors, report)
    figure.savefig(sys.argv[2], dpi=110)


def family(axes: plt.Axes, fit) -> None:
    colour = COLOURS[fit.family]
    inside = np.geomspace(fit.sizes[0].x, fit.sizes[-1].x, 80)
    beyond = np.geomspace(fit.sizes[-1].x, 3.9 * fit.sizes[-1].x, 30)
    for xs, style, shade in ((inside, "-", 0.20), (beyond, "--", 0.08)):
        lower, upper = fit.band(xs)
        axes.fill_between(xs, lower, upper, color=colour, alpha=shade, lw=0)
        axes.plot(xs, fit.curve(xs), style, color=colour, lw=1.2)
    axes.plot([s.x for s in fit.sizes], [s.mean for s in fit.sizes], "o", color=colour, ms=5)
    if fit.hold_out is not None:
        test = fit.hold_out
        half = [[test.predicted - test.interval.lower], [test.interval.upper - test.predicted]]
        axes.errorbar([test.x], [test.predicted], half, fmt="o", mfc="white", color=colour, ms=6, lw=1, capsize=3)
    axes.set_xscale("log")
    alpha = "alpha: cannot tell" if not fit.verdict.startswith("alpha") else f"alpha {fit.alpha:.2f}"
    axes.set_title(f"{fit.family}\n{alpha}", fontsize=9)
    axes.set_ylim(0.07, 0.18)
    axes.set_xlabel("parameters", fontsize=8)
    axes.tick_params(labelsize=8)


def ridge_panel(axes: plt.Axes, report: FitReport) -> None:
    """How E and alpha move together when size means are drawn anew: a picture, no interval."""
    for fit in report.families:
        draws = parametric_draws(fit, seed=0)
        axes.plot(draws["alpha"], draws["E"], ".", color=COLOURS[fit.family], ms=2.5, label=fit.family)
    axes.set_xscale("log")
    axes.set_xlabel("alpha of redrawn studies (no interval)", fontsize=8)
    axes.set_ylabel("E", fontsize=8)
    axes.legend(fontsize=7, markerscale=3, loc="lower right")
    axes.tick_params(labelsize=8)


def gain_panel(axes: plt.Axes, report: FitReport) -> None:
    for row, fit in enumerate(report.families):
        gain = fit.gain
        ends = [(gain.interval.lower) / gain.decades, (gain.interval.upper) / gain.decades]
        axes.plot(ends, [row, row], color=COLOURS[fit.family], lw=2)
        axes.plot([gain.per_decade], [row], "o", color=COLOURS[fit.family])
    axes.axvline(0, color="#888888", lw=0.8)
    axes.set_yticks(range(len(report.families)), [fit.family for fit in report.families], fontsize=8)
    axes.set_xlabel("gain per tenfold parameters, ln of the loss", fontsize=8)
    axes.tick_params(labelsize=8)


def error_panel(axes: plt.Axes, report: FitReport) -> None:
    names = ("law", "power law", "last value")
    for row, fit in enumerate(report.families):
        test = fit.hold_out
        errors = (test.error, test.power_law_error, test.last_value_error)
        for shift, error, mark in zip((-0.2, 0.0, 0.2), errors, ("o", "s", "x"), strict=True):
            axes.plot([100 * error], [row + shift], mark, color=COLOURS[fit.family], ms=5)
    for name, mark in zip(names, ("o", "s", "x"), strict=True):
        axes.plot([], [], mark, color="#555555", label=name)
    axes.axvline(0, color="#888888", lw=0.8)
    axes.set_yticks(range(len(report.families)), [fit.family for fit in report.families], fontsize=8)
    axes.set_xlabel("error at the held-out largest size, %", fontsize=8)
    axes.legend(fontsize=7, loc="lower left")
    axes.tick_params(labelsize=8)


if __name__ == "__main__":
    main()
