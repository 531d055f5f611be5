"""One law fitted to one table of points: the optimum, and the proof that it is one.

The proof is the gradient at the optimum, an objective that several starts reach independently, and curvature that is
nowhere downwards; never a solver's own flag. SciPy's L-BFGS-B with default tolerances stops 15 % above the Chinchilla
optimum and reports success (measured).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from transvae_platform.fitting.laws.forms import Columns, FloatArray, Form, UserForm
from transvae_platform.fitting.laws.models import Model, Robust, check_form, make_model
from transvae_platform.fitting.laws.newton import gradient_tolerance, minimise
from transvae_platform.fitting.laws.start import starts

MIN_AGREEING = 3
AGREEMENT = 1e-6  # relative, of objectives
# A user's parameters: beyond this condition second derivatives by differences (1e-10) cannot tell a slope from none.
FLAT = 1e10
# ... and starts that agree to AGREEMENT are within 0.02 of a standard error of each other at 240 points; farther apart
# than this, a line of parameters fits equally well (assumption).
APART = 0.05
ROUNDING = 1e-14  # per point, residuals being relative: objectives below it are all 0, the data have no noise
# Below this many points least squares: a bound on residuals cannot help, it only moves the optimum (assumption).
ROBUST_FROM = 100
DELTA = 1e-3  # of the published Chinchilla fit
SWEEP = (1e-3, 1e-2, 1e-1, float("inf"))
# Huber with so small a delta is least absolute deviations; reached step by step from a larger one.
LEAST_ABSOLUTE = (3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 3e-7, 1e-7, 3e-8, 1e-8)


@dataclass(frozen=True, eq=False)
class LawFit:
    """theta: the solver's parameters; gradient: max norm there; condition: of the Hessian's eigenvalues.

    agreeing of `starts` reached the objective to AGREEMENT relative; apart: how far their parameters lie from each
    other, relative where above 1. The objective is in the square of the loss's unit for linear residuals, the
    gradient and all else relative. Everything about numbers is in `parameters`.
    """

    form: Form
    robust: Robust
    model: Model
    y: FloatArray
    weights: FloatArray
    theta: FloatArray
    objective: float
    gradient: float
    condition: float
    smallest_curvature: float
    starts: int
    agreeing: int
    apart: float
    iterations: int

    @cached_property
    def parameters(self) -> dict[str, float]:
        """By name, in the form's own scale."""
        return {name: float(value[0]) for name, value in self.model.natural(self.theta[None]).items()}

    @property
    def converged(self) -> bool:
        return not self.doubts

    @property
    def doubts(self) -> list[str]:
        """What the proof lacks, in words; empty when the optimum is proven."""
        found = []
        limit = 100 * gradient_tolerance(self.robust)  # 1e-8 at delta 1e-3 and above
        if not self.gradient <= limit:
            found.append(f"the gradient is {self.gradient:.1e}, not below {limit:.0e}")
        if self.agreeing < min(MIN_AGREEING, self.starts):
            found.append(f"{self.agreeing} of {self.starts} starts agree, {MIN_AGREEING} are asked for")
        if self.smallest_curvature < 0:
            found.append("the objective curves downwards there: a saddle")
        if isinstance(self.form, UserForm) and not self.condition <= FLAT:
            found.append(f"the objective is flat along a line of parameters (condition {self.condition:.1e})")
        if isinstance(self.form, UserForm) and self.apart > APART:
            found.append(f"the parameters of agreeing starts differ by {self.apart:.2g}")
        return found

    def predict(self, columns: Columns) -> FloatArray:
        """The law at other points, in the unit of the loss."""
        return self.model.predict(self.theta, columns)

    def residuals(self, columns: Columns) -> FloatArray:
        """ln y - ln L of the fitted points, whatever residuals were minimised."""
        return np.log(self.y) - np.log(self.predict(columns))


def default_delta(points: int) -> float:
    """Huber's delta for so many points."""
    return DELTA if points >= ROBUST_FROM else float("inf")


def fit_law(
    form: Form, columns: Columns, y: FloatArray, robust: Robust, *, weights: FloatArray | None = None, seed: int = 0
) -> LawFit:
    """The global optimum, as far as the starts can tell.

    Raises:
        ValueError: a column is missing, a user's form is none, or values are not finite and positive.
    """
    y = np.asarray(y, dtype=np.float64)
    taken = {name: np.asarray(_column(columns, name), dtype=np.float64) for name in form.variables}
    for name, values in (*taken.items(), ("loss", y)):
        if values.shape != y.shape or not (np.isfinite(values).all() and (values > 0).all()):
            raise ValueError(f"{form.name}: {name} must hold {len(y)} finite positive numbers")
    if isinstance(form, UserForm):
        check_form(form, taken)
    w = np.ones_like(y) if weights is None else weights
    model = make_model(form, taken, y)
    begin = starts(model, w, seed)
    found = minimise(model, begin, np.broadcast_to(w, (len(begin), len(w))), robust)
    best = int(np.argmin(found.f))
    agree = found.f <= found.f[best] * (1 + AGREEMENT) + ROUNDING * w.sum()
    apart = np.abs(found.theta[agree] - found.theta[best]) / np.maximum(1.0, np.abs(found.theta[best]))
    fit = LawFit(
        form, robust, model, y, w, found.theta[best], 0.0, 0.0, 0.0, 0.0, len(begin), int(agree.sum()),
        float(apart.max()), int(found.iterations[best]),
    )  # fmt: skip
    return _proven(fit)


def refit(fit: LawFit, robust: Robust) -> LawFit:
    """The optimum for other residuals or another delta, from this one's."""
    found = minimise(fit.model, fit.theta[None], fit.weights[None], robust)
    return _proven(
        replace(fit, robust=robust, theta=found.theta[0], starts=1, agreeing=1, apart=0.0,
                iterations=int(found.iterations[0]))
    )  # fmt: skip


def delta_sweep(fit: LawFit, columns: Columns, seed: int = 0, deltas: Sequence[float] = SWEEP) -> tuple[LawFit, ...]:
    """The fit for every delta, each from starts of its own: how much an arbitrary choice moves the answer."""
    return tuple(
        fit_law(fit.form, columns, fit.y, Robust(delta, fit.robust.residuals), weights=fit.weights, seed=seed)
        for delta in deltas
    )


def least_absolute(fit: LawFit) -> LawFit:
    """The least-absolute-deviation optimum: another estimator than Huber's, with other values.

    Its objective is `objective / delta`, the sum of |r|, up to delta times the number of points.
    """
    for delta in LEAST_ABSOLUTE:
        fit = refit(fit, Robust(delta, fit.robust.residuals))
    return fit


def _proven(fit: LawFit) -> LawFit:
    f, g, h = fit.model.derivatives(fit.theta[None], fit.weights[None], fit.robust)
    values = np.linalg.eigvalsh(h[0])
    largest = float(np.abs(values).max())
    condition = largest / float(np.abs(values).min()) if np.abs(values).min() > 0 else float("inf")
    curvature = float(values.min())
    rounding = 1e-10 * largest
    unit = 1.0 if fit.robust.residuals == "log" else fit.model.unit
    return replace(
        fit, objective=float(f[0]) * unit**2, gradient=float(np.abs(g[0]).max()), condition=condition,
        smallest_curvature=0.0 if abs(curvature) <= rounding else curvature,
    )  # fmt: skip


def _column(columns: Mapping[str, FloatArray], name: str) -> FloatArray:
    if name not in columns:
        raise ValueError(f"the form needs a column {name!r} - there are {', '.join(columns)}")
    return columns[name]
