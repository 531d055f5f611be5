"""Predictions of a law at other points, and what naive rivals would have said of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from transvae_platform.fitting.answers.prepare import Prepared, values_of
from transvae_platform.fitting.answers.request import Request
from transvae_platform.fitting.laws.bootstrap import Bootstrap
from transvae_platform.fitting.laws.fit import LawFit
from transvae_platform.fitting.laws.forms import Columns, FloatArray
from transvae_platform.fitting.refusals import MAX_EXTRAPOLATION, MAX_WITH_WARNING, extrapolation


def predictions(
    fit: LawFit, draws: Bootstrap | None, prepared: Prepared, back_test: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """The rows that were left out for it; beyond the limits of extrapolation the reason instead of a number."""
    request, rows = prepared.request, prepared.held_out
    if rows is None or not len(rows):
        return []
    columns, measured = values_of(rows, request, fit.form.variables, predicted=True)
    value = fit.predict(columns)
    band = None if draws is None else draws.prediction(columns, request.level)
    found = []
    for i in range(len(rows)):
        at = {name: float(values[i]) for name, values in columns.items()}
        refusal, warning = _reach(at, prepared, request, back_test)
        given = refusal is None
        found.append({
            **at, "row": int(rows.numbers[i]),
            "name": str(rows.columns["name"][i]) if "name" in rows.columns else None,
            "predicted": float(value[i]) if given else None, "measured": float(measured[i]),
            "error": float(value[i] / measured[i] - 1) if given else None,
            "law_interval": [float(band[0][i]), float(band[1][i])] if given and band is not None else None,
            "refusal": refusal, "warning": warning,
        })  # fmt: skip
    return found


def _reach(
    at: Mapping[str, float], prepared: Prepared, request: Request, back_test: Mapping[str, Any] | None
) -> tuple[str | None, str | None]:
    """Why a point is too far, or what to know of one that is far."""
    limit = MAX_WITH_WARNING if request.far else MAX_EXTRAPOLATION
    tested = "nothing could be held out"
    if back_test is not None:
        tested = f"the back-test ({back_test['held_out']}) missed by {100 * back_test['mean_error']:.2g} % on average"
    warnings = []
    for name, x in at.items():
        low, high = float(prepared.columns[name].min()), float(prepared.columns[name].max())
        refusal = extrapolation(request.form, x, high, name, limit, low)
        if refusal is not None and not request.as_published:
            return refusal.sentence, None
        times, end = (x / high, "the largest") if x > high else (low / x, "below the smallest")
        if times > MAX_EXTRAPOLATION:
            warnings.append(f"{times:.1f} times {end} {name}, where no interval has been checked; {tested}")
    return None, "; ".join(warnings) or None


def naive(known: Columns, loss: FloatArray, asked: Columns) -> dict[str, FloatArray]:
    """A pure power law (ln L linear in the logarithms of all variables, no floor), and the nearest known point."""
    design = _logs(known)
    coefficients = np.linalg.lstsq(design, np.log(loss), rcond=None)[0]
    distance = ((_logs(asked)[:, None, :] - design[None]) ** 2).sum(2)
    return {"power_law": np.exp(_logs(asked) @ coefficients), "nearest_point": loss[np.argmin(distance, axis=1)]}


def compared(law: FloatArray, measured: FloatArray, rivals: dict[str, FloatArray]) -> dict[str, Any]:
    """Mean and largest relative errors of the law, mean ones of the rivals, and whether the law is better than both."""
    errors = {name: float(np.abs(values / measured - 1).mean()) for name, values in {"law": law, **rivals}.items()}
    return {
        "mean_error": errors.pop("law"), "largest_error": float(np.abs(law / measured - 1).max()),
        "bias": float((law / measured - 1).mean()), "baselines": errors,
        "beats_baselines": float(np.abs(law / measured - 1).mean()) < min(errors.values()),
    }  # fmt: skip


def _logs(columns: Columns) -> FloatArray:
    return np.column_stack([np.ones(len(next(iter(columns.values())))), *(np.log(v) for v in columns.values())])
