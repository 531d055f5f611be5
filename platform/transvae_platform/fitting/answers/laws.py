"""The answer of a law of several variables: optimum and proof, delta sweep, bootstrap, back-test, predictions."""

from __future__ import annotations

from typing import Any

import numpy as np

from transvae_platform.fitting.answers.predict import compared, naive, predictions
from transvae_platform.fitting.answers.prepare import Prepared
from transvae_platform.fitting.answers.request import Request
from transvae_platform.fitting.curve import SAME_RATE
from transvae_platform.fitting.laws.bootstrap import DRAWS, NEGLIGIBLE, Bootstrap, bootstrap
from transvae_platform.fitting.laws.fit import LawFit, default_delta, delta_sweep, fit_law, least_absolute
from transvae_platform.fitting.laws.forms import Columns, FloatArray, Form, SumOfPowers
from transvae_platform.fitting.laws.models import Robust
from transvae_platform.fitting.laws.refusals import (
    growing,
    refusals_after,
    refusals_before,
    term_vanishes,
    too_few_for_bootstrap,
)
from transvae_platform.fitting.laws.start import grid_points
from transvae_platform.fitting.refusals import Refusal, floor_at_zero
from transvae_platform.fitting.runs.checks import numbers_of

# The largest N, and as many below it as make a twentieth of the points, are held out (assumption).
HELD_OUT = 0.05
STEPS = (
    "several points of a run show its steps at its own learning rate: their exponent is one of steps, and a law of "
    "data takes runs of different length"
)


def answer_law(form: Form, prepared: Prepared) -> dict[str, Any]:
    """The result of one group; where the data cannot carry the form, only the refusals."""
    request, columns, loss = prepared.request, prepared.columns, prepared.loss
    runs = len(set(prepared.names)) if prepared.names else len(loss)
    refused = refusals_before(form, columns, loss) or growing(form, columns, loss)
    origin = {} if isinstance(form, SumOfPowers) else {"form_source": dict(form.origin)}
    base: dict[str, Any] = {
        "form": form.name,
        "expression": form.expression,
        **origin,
        "points": len(loss),
        "runs": runs,
    }
    if refused:
        return {**base, "parameters": None, "refusals": [r.sentence for r in refused]}
    robust = Robust(default_delta(len(loss)) if request.delta is None else request.delta, request.residuals)
    fit = fit_law(form, columns, loss, robust, seed=request.seed)
    few = too_few_for_bootstrap(form, columns, runs)
    draws = None if few is not None else _bootstrap(fit, prepared)
    notes = refusals_after(fit, columns, few)
    spread, unbounded = (None, []) if draws is None else _spread(draws, request)
    tested = back_test(form, columns, loss, robust, request.seed)
    test, untested = (None, [tested]) if isinstance(tested, Refusal) else (tested, [])
    return {
        **base,
        "parameters": fit.parameters if fit.converged else None,
        "bootstrap": spread,
        "proof": proof(fit),
        "delta_sweep": [{**proof(f), "parameters": f.parameters} for f in delta_sweep(fit, columns, request.seed)],
        "least_absolute": _lad(fit, columns) if request.least_absolute else None,
        "residuals": {
            "sd": float(fit.residuals(columns).std()),
            "largest": float(np.abs(fit.residuals(columns)).max()),
        },
        "back_test": test,
        "predictions": predictions(fit, draws, prepared, test),
        "refusals": [*(r.sentence for r in (*notes, *unbounded, *untested)), *_within_runs(prepared)],
    }


def proof(fit: LawFit) -> dict[str, Any]:
    """What was minimised, how far down it came, and why that is the bottom."""
    ranges = fit.form.ranges if isinstance(fit.form, SumOfPowers) else fit.form.bounds
    return {
        "delta": "inf" if fit.robust.delta == float("inf") else fit.robust.delta,
        "residuals": fit.robust.residuals, "reduction": "sum", "objective": fit.objective,
        "gradient_max": fit.gradient, "condition": fit.condition, "starts": fit.starts, "starts_agreeing": fit.agreeing,
        **_start(fit.form),
        "ranges": {name: list(ends) for name, ends in ranges.items()},
        "iterations": fit.iterations, "theta": dict(zip(fit.model.theta_names, fit.theta.tolist(), strict=True)),
        "converged": fit.converged, "doubts": fit.doubts,
    }  # fmt: skip


def _start(form: Form) -> dict[str, Any]:
    if isinstance(form, SumOfPowers):
        how = "variable projection: grid of exponents, non-negative amplitudes in closed form; then damped Newton"
        scale = "ln of each amplitude's term at the mean logarithms of its variables, then the exponents"
        return {"start": how, "start_grid": grid_points(form), "theta_scale": scale}
    how = "points drawn in the form's bounds from the request's seed; then damped Newton"
    return {"start": how, "theta_scale": "the form's own parameters"}


def back_test(
    form: Form, columns: Columns, loss: FloatArray, robust: Robust, seed: int = 0
) -> dict[str, Any] | Refusal:
    """Everything at the largest values of the first variable held out and predicted, beside naive rivals."""
    first = columns[form.variables[0]]
    levels = np.unique(first)[::-1]
    counts = np.cumsum([(first == level).sum() for level in levels])
    edge = levels[int(np.searchsorted(counts, max(1.0, HELD_OUT * len(loss))))]
    out = first >= edge
    known = {name: values[~out] for name, values in columns.items()}
    held_out = f"{form.variables[0]} >= {edge:.6g}"
    if left := refusals_before(form, known, loss[~out]):
        return Refusal(
            "no-hold-out", form.name, f"nothing is held out and predicted, because without {held_out} there would be "
            f"{left[0].why}", f"runs at more values of {form.variables[0]} would allow the test",
        )  # fmt: skip
    fit = fit_law(form, known, loss[~out], robust, seed=seed)
    asked = {name: values[out] for name, values in columns.items()}
    law = fit.predict(asked)
    return {
        "held_out": held_out, "points": int(out.sum()), "converged": fit.converged,
        **compared(law, loss[out], naive(known, loss[~out], asked)),
    }  # fmt: skip


def _bootstrap(fit: LawFit, prepared: Prepared) -> Bootstrap | None:
    request = prepared.request
    if not request.bootstrap or not fit.converged:
        return None
    return bootstrap(fit, replicates=request.bootstrap, seed=request.seed, runs=prepared.names)


def _spread(draws: Bootstrap, request: Request) -> tuple[dict[str, Any], list[Refusal]]:
    """Standard errors and intervals; a floor that reaches 0 has an upper end only, a vanishing term none."""
    form, refused = draws.fit.form, []
    intervals: dict[str, list[float] | None] = {n: list(draws.interval(n, request.level)) for n in form.parameters}
    for term in form.terms if isinstance(form, SumOfPowers) else ():
        interval = intervals[term.amplitude]
        if interval is None or not draws.vanishes(term.amplitude, request.level):
            continue
        if not term.powers and interval[1] >= NEGLIGIBLE * draws.fit.model.unit:
            intervals[term.amplitude] = [0.0, interval[1]]
            refused.append(floor_at_zero(term.amplitude, term.amplitude, interval[1]))
            continue
        intervals |= dict.fromkeys((term.amplitude, *(exponent for _, exponent, _ in term.powers)))
        refused.append(term_vanishes(term))
    values = {
        "replicates": len(draws.theta), "seed": draws.seed, "generator": "numpy RandomState.randint",
        "unit": "run", "order": "names of runs as text, or rows without any", "runs": draws.runs,
        "failed": draws.failed, "moved": draws.moved, "level": request.level, "law_intervals_from_first": DRAWS,
        "standard_errors": {n: e if intervals[n] is not None else None for n, e in draws.errors().items()},
        "intervals": intervals,
    }  # fmt: skip
    return values, refused


def _within_runs(prepared: Prepared) -> list[str]:
    """What several points of one run cannot say, however well they are fitted."""
    names, rates = prepared.names, None
    if "learning_rate" in prepared.runs.columns:
        rates = numbers_of(prepared.runs, "learning_rate")
    if names is None or len(set(names)) == len(names):
        return []
    found = [STEPS]
    if rates is not None:
        of_run: dict[str, set[float]] = {}
        for name, rate in zip(names, rates.tolist(), strict=True):
            of_run.setdefault(name, set()).add(rate)
        changing = sum(max(r) - min(r) > SAME_RATE * max(r) for r in of_run.values())
        if changing:
            found.append(f"the learning rate changes within {changing} runs: a point before the end of a schedule lies "
                         "above what a run planned to end there would reach; fit the last points of runs of different "
                         "length, or points of a constant rate")  # fmt: skip
    return found


def _lad(fit: LawFit, columns: Columns) -> dict[str, Any]:
    lad = least_absolute(fit)
    total = float(np.abs(lad.residuals(columns)).sum())
    return {"parameters": lad.parameters, "sum_abs_residual": total, "delta": lad.robust.delta}
