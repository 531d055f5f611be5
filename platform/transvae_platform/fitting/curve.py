"""Extrapolating one run's learning curve, within one phase of constant learning rate, and never without a back-test.

L = E + A images^-alpha is fitted to the points of one run. They are not independent, so no interval comes from their
scatter: the same extrapolation, by the same factor, is done from earlier ends of the curve, and the largest of those
errors is the margin. The exponent is one of steps at a constant rate, not of data: images repeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from transvae_platform.fitting.laws.fit import LawFit, fit_law
from transvae_platform.fitting.laws.forms import L_OF_N, FloatArray
from transvae_platform.fitting.laws.models import Robust
from transvae_platform.fitting.refusals import MAX_EXTRAPOLATION, Refusal
from transvae_platform.fitting.views.line import fit_line

MIN_POINTS = 8  # three parameters, and enough before an earlier end to fit them again (assumption)
MIN_EARLIER = MIN_POINTS // 2 + 1  # that an earlier end leaves
ENDS = (0.6, 0.7, 0.8, 0.9, 1.0)  # earlier ends, as shares of the latest one whose target has been measured
SAME_RATE = 1e-6


@dataclass(frozen=True)
class BackTest:
    """Fitted to points up to `end`, predicted at `at`; errors are relative to the measured loss there."""

    end: float
    at: float
    error: float
    power_law_error: float
    last_value_error: float


@dataclass(frozen=True)
class Forecast:
    """The loss of a run at `images`, +- margin (relative): the largest error of the back-tests, not a confidence."""

    run: str
    images: float
    value: float
    margin: float
    alpha: float
    E: float
    A: float
    objective: float
    gradient: float
    condition: float
    starts: int
    starts_agreeing: int
    points: int
    back_tests: tuple[BackTest, ...]
    beats_baselines: bool


def extrapolate(
    run: str, images: FloatArray, loss: FloatArray, to: float, *,
    learning_rate: FloatArray | None, phase: Sequence[str] | None,
) -> Forecast | Refusal:  # fmt: skip
    """One run's points in any order, all finite and positive; to: images seen at the forecast."""
    order = np.argsort(images)
    x, y = images[order], loss[order]
    refusal = _unfit(run, x, to, learning_rate, phase) or _not_falling(run, y)
    if refusal is not None:
        return refusal
    fit = fit_law(L_OF_N, {"N": x}, y, Robust(float("inf")))
    factor = to / float(x[-1])
    latest = float(x[-1]) / factor
    tests = tuple(t for share in ENDS if (t := _back_test(x, y, share * latest, factor)) is not None)
    refusal = _unproven(run, fit, tests, len(x))
    if refusal is not None:
        return refusal
    mean = [float(np.mean([abs(getattr(t, n)) for t in tests]))
            for n in ("error", "power_law_error", "last_value_error")]  # fmt: skip
    return Forecast(
        run, to, float(fit.predict({"N": np.array([to])})[0]), max(abs(t.error) for t in tests),
        fit.parameters["alpha"], fit.parameters["E"], fit.parameters["A"], fit.objective, fit.gradient, fit.condition,
        fit.starts, fit.agreeing, len(x), tests, mean[0] < min(mean[1:]),
    )  # fmt: skip


def _back_test(x: FloatArray, y: FloatArray, end: float, factor: float) -> BackTest | None:
    known = x <= end * (1 + 1e-9)
    if known.sum() < MIN_EARLIER:
        return None
    at = int(np.argmin(np.abs(np.log(x) - np.log(end * factor))))
    columns = {"N": x[known]}
    law = fit_law(L_OF_N, columns, y[known], Robust(float("inf"))).predict({"N": x[at : at + 1]})
    power = fit_line(x[known], y[known])(x[at])
    error, power_error, last_error = (float(v) / float(y[at]) - 1.0 for v in (law[0], power, y[known][-1]))
    return BackTest(end, float(x[at]), error, power_error, last_error)


def _unfit(
    run: str, images: FloatArray, to: float, learning_rate: FloatArray | None, phase: Sequence[str] | None
) -> Refusal | None:
    if phase is not None and len(set(phase)) > 1:
        return Refusal(
            "phase-change", run,
            f"its points lie in the phases {', '.join(sorted(set(phase)))}, and no curve crosses a change of phase",
            "the points of one phase can be extrapolated within it",
        )  # fmt: skip
    if learning_rate is None or not np.isfinite(learning_rate).all():
        some = "" if learning_rate is None else f"{int((~np.isfinite(learning_rate)).sum())} of "
        return Refusal(
            "no-learning-rate", run, f"{some}its points carry no learning rate, so warm-up and decay cannot be told "
            "apart",
            "a column learning_rate would show a phase of constant rate",
        )  # fmt: skip
    if np.ptp(learning_rate) > SAME_RATE * float(np.max(learning_rate)):
        return Refusal(
            "changing-rate", run,
            f"its learning rate goes from {learning_rate.max():.3g} to {learning_rate.min():.3g}, and the curve of a "
            "decaying rate ends where it was planned to end: a longer run has another curve",
            "points of a constant rate, after warm-up, can be extrapolated",
        )  # fmt: skip
    if len(images) < MIN_POINTS:
        return Refusal(
            "too-few-points", run, f"{len(images)} points cannot carry a fit and its back-tests",
            f"{MIN_POINTS} points of one phase would",
        )  # fmt: skip
    if not to > float(images.max()):
        return Refusal(
            "not-ahead", run, f"{to:.3g} images are no more than it has seen ({float(images.max()):.3g})",
            "its own points say what its loss was there",
        )  # fmt: skip
    if to > MAX_EXTRAPOLATION * float(images.max()):
        return Refusal(
            "extrapolation", run,
            f"{to:.3g} images are {to / float(images.max()):.1f} times those it has seen, and forecasts end at "
            f"{MAX_EXTRAPOLATION:g} times", f"training to {to / MAX_EXTRAPOLATION:.3g} images would allow it",
        )  # fmt: skip
    return None


def _not_falling(run: str, loss: FloatArray) -> Refusal | None:
    """Whether the last third of the points lies above the first."""
    third = len(loss) // 3
    first, last = float(loss[:third].mean()), float(loss[-third:].mean())
    if last <= first:
        return None
    return Refusal(
        "rising-curve", run, f"its loss rises (from {first:.4g} in the first third of its points to {last:.4g} in the "
        "last), and the law is of one that falls", "a run that still learns can be extrapolated",
    )  # fmt: skip


def _unproven(run: str, fit: LawFit, tests: Sequence[BackTest], points: int) -> Refusal | None:
    if not fit.converged:
        return Refusal(
            "not-converged", run, f"the optimum is not proven: {'; '.join(fit.doubts)}",
            "more points, or points further apart, would make it sharp",
        )  # fmt: skip
    if not tests:
        return Refusal(
            "no-back-test", run, f"no earlier end of its {points} points leaves {MIN_EARLIER} to repeat this "
            "extrapolation from, so its error is unknown", "a nearer target, or more points of this phase, would do",
        )  # fmt: skip
    return None
