"""IsoFLOP view (approach 2 of Chinchilla): at each compute level the size with the least loss, and a line through them.

A view, never the headline: a parabola in ln N is biased even without noise, because the loss at fixed compute is no
parabola (arXiv 2603.22339), and the more so the wider and the less centred the sizes of a level are. The bias is
computed for every answer: what the same procedure makes of a law whose exponent is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transvae_platform.fitting.laws.forms import FloatArray
from transvae_platform.fitting.views.line import Line, fit_line

MIN_LEVELS, MIN_SIZES = 3, 3
NEAREST = 5  # sizes about the least loss that carry the parabola (assumption)
SAME_COMPUTE = 0.02  # levels whose compute differs by less are one (assumption: rounding of step counts)


@dataclass(frozen=True)
class Level:
    """One compute level: the parabola's size of least loss, or why there is none."""

    flops: float
    sizes: int
    best_size: float | None
    best_loss: float | None
    refused: str | None


@dataclass(frozen=True)
class IsoFlop:
    """The levels and the line N* = G C^a through those that have an optimum; refused says why there is none."""

    levels: tuple[Level, ...]
    line: Line | None
    bias: float | None
    """What this procedure adds to a true exponent, on these sizes and levels, without noise."""
    refused: str | None


def isoflop(flops: FloatArray, n: FloatArray, loss: FloatArray) -> IsoFlop:
    """flops: training compute C of every run, n: parameters; all positive and of one length."""
    groups = _levels(flops)
    levels = tuple(_level(float(np.exp(np.log(flops[g]).mean())), n[g], loss[g]) for g in groups)
    found = [level for level in levels if level.best_size is not None]
    if len(found) < MIN_LEVELS:
        why = (
            f"{len(found)} of {len(levels)} compute levels have an optimum between their sizes, and an optimal N(C) "
            f"takes {MIN_LEVELS} of them; runs of at least {MIN_SIZES} sizes at each of {MIN_LEVELS} computes would do"
        )
        return IsoFlop(levels, None, None, why)
    line = fit_line(*np.array([(level.flops, level.best_size) for level in found]).T)
    return IsoFlop(levels, line, _bias(flops, n, groups, line), None)


def _levels(flops: FloatArray) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    order = np.argsort(flops)
    breaks = np.flatnonzero(np.diff(np.log(flops[order])) > SAME_COMPUTE) + 1
    return np.split(order, breaks)


def _level(flops: float, n: FloatArray, loss: FloatArray) -> Level:
    """Seeds of one size are averaged first: the parabola goes through sizes, not through rows."""
    sizes, row = np.unique(n, return_inverse=True)
    mean = np.bincount(row, loss) / np.bincount(row)

    def refuse(why: str) -> Level:
        return Level(flops, len(sizes), None, None, why)

    if len(sizes) < MIN_SIZES:
        return refuse(f"fewer than {MIN_SIZES} sizes")
    log_n, log_loss = np.log(sizes), np.log(mean)
    middle = float(log_n[np.argmin(log_loss)])
    near = np.argsort(np.abs(log_n - middle), kind="stable")[:NEAREST]
    c2, c1, c0 = np.polyfit(log_n[near] - middle, log_loss[near], 2)
    if c2 <= 0:
        return refuse("the loss has no least value among these sizes")
    best = middle - c1 / (2 * c2)
    if not log_n.min() < best < log_n.max():
        return refuse("the least loss lies at the smallest or the largest size: an optimum beyond them is not seen")
    return Level(flops, len(sizes), float(np.exp(best)), float(np.exp(c0 - c1**2 / (4 * c2))), None)


def _bias(flops: FloatArray, n: FloatArray, groups: list[np.ndarray[tuple[int], np.dtype[np.int64]]], line: Line
          ) -> float | None:  # fmt: skip
    """The same procedure on L = 1 + (N/N*)^-u / u + (N/N*)^v / v, which is least at the fitted line's N*, minus that
    line's exponent. u and v are Chinchilla's published exponents."""
    u, v = 0.34, 0.28
    ratio = n / line(flops)
    exact = 1.0 + ratio**-u / u + ratio**v / v
    optima = [_level(float(np.exp(np.log(flops[g]).mean())), n[g], exact[g]) for g in groups]
    found = [level for level in optima if level.best_size is not None]
    if len(found) < MIN_LEVELS:
        return None
    return fit_line(*np.array([(o.flops, o.best_size) for o in found]).T).exponent - line.exponent
