"""Answers of the three views: a line through given optima, the IsoFLOP view, a line through an envelope."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from transvae_platform.fitting.answers.prepare import Prepared, values_of
from transvae_platform.fitting.answers.request import Request
from transvae_platform.fitting.runs.read import TableError
from transvae_platform.fitting.views.envelope import envelope_line
from transvae_platform.fitting.views.isoflop import isoflop
from transvae_platform.fitting.views.line import Line, fit_line

MIN_POINTS = 3
ISOFLOP_BIAS = (
    "a view, not a headline: parabolas are biased even without noise (arXiv 2603.22339); `bias` is what this procedure "
    "adds to a known exponent on these sizes and levels"
)
ENVELOPE_BIAS = (
    "a view, not a headline: an envelope chooses the luckiest runs, so there is no interval, only the errors on cells "
    "with a measured value"
)
LINE_LIMIT = "the interval holds for independent points; R^2 is not given, 0.999 also belongs to wrong exponents"


def answer_frontier(prepared: Prepared) -> dict[str, Any]:
    """The line through optima that were found elsewhere, e.g. N*(C)."""
    x = prepared.columns["C"]
    _enough(len(np.unique(x)), "values of C")
    line = fit_line(x, prepared.loss)
    return {**_line(line, prepared.request), "expression": "y = G C^a", "note": LINE_LIMIT}


def answer_isoflop(prepared: Prepared) -> dict[str, Any]:
    """Optimal N at each compute, and the line through them."""
    found = isoflop(prepared.columns["C"], prepared.columns["N"], prepared.loss)
    line = {} if found.line is None else _line(found.line, prepared.request)
    refused = [] if found.refused is None else [found.refused]
    refused += [f"C = {level.flops:.3g}: {level.refused}" for level in found.levels if level.refused]
    levels = [asdict(level) for level in found.levels]
    return {**line, "expression": "N* = G C^a", "bias": found.bias, "levels": levels, "note": ISOFLOP_BIAS,
            "refusals": refused}  # fmt: skip


def answer_envelope(prepared: Prepared) -> dict[str, Any]:
    """The line through the least losses over x, and its errors on the cells that were measured."""
    x, request = prepared.columns["x"], prepared.request
    _enough(len(np.unique(x)), "values of x")
    line, points = envelope_line(x, prepared.loss, request.bins)
    log10 = {"slope": line.exponent, "intercept": float(np.log10(line.coefficient))}
    kind = "running minimum" if request.bins is None else f"least in each of {request.bins} bins"
    cells = _cells(prepared, line)
    return {
        "envelope": kind, "envelope_points": points, "expression": "y = G x^a", "parameters": {
            "a": line.exponent, "G": line.coefficient}, "log10": log10, "note": ENVELOPE_BIAS, "predictions": cells,
        "mean_absolute_error": float(np.mean([abs(c["predicted"] - c["measured"]) for c in cells])) if cells else None,
    }  # fmt: skip


def _cells(prepared: Prepared, line: Line) -> list[dict[str, Any]]:
    """Held-out rows, or with `best_of` the best of all rows in each cell."""
    request, rows = prepared.request, prepared.held_out
    if rows is None and not request.best_of:
        return []
    rows = prepared.runs if rows is None else rows
    columns, measured = values_of(rows, request, ("x",), predicted=True)
    cells: dict[tuple[str, ...], int] = {}
    for i in range(len(rows)):
        key = tuple(str(rows.column(name)[i]) for name in request.best_of) or (str(rows.numbers[i]),)
        if key not in cells or measured[i] < measured[cells[key]]:
            cells[key] = i
    return [
        {"name": " ".join(key), "x": float(columns["x"][i]), "predicted": float(line(columns["x"][i])),
         "measured": float(measured[i]), "error": float(line(columns["x"][i]) / measured[i] - 1)}
        for key, i in cells.items()
    ]  # fmt: skip


def _line(line: Line, request: Request) -> dict[str, Any]:
    interval = line.interval(request.level)
    return {
        "parameters": {"a": line.exponent, "G": line.coefficient}, "standard_error": line.error,
        "interval": None if interval is None else list(interval), "level": request.level, "points": line.points,
    }  # fmt: skip


def _enough(count: int, what: str) -> None:
    if count < MIN_POINTS:
        raise TableError(f"{count} different {what} are too few for a line - {MIN_POINTS} are the least")
