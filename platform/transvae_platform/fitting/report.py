"""What a fit answers: one FamilyFit per family, the comparisons, the refusals and the provenance, and their JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from transvae_platform.fitting.compare import Contrast
from transvae_platform.fitting.forms import FloatArray, Law
from transvae_platform.fitting.gain import Gain
from transvae_platform.fitting.holdout import HoldOut
from transvae_platform.fitting.intervals import AlphaSet, Interval, prediction_ends
from transvae_platform.fitting.monotone import Monotone
from transvae_platform.fitting.refusals import MAX_EXTRAPOLATION, MAX_WITH_WARNING, Refusal, extrapolation
from transvae_platform.fitting.saturation import Saturation
from transvae_platform.fitting.shared import SharedFloor
from transvae_platform.fitting.solve import Problem, Solution
from transvae_platform.fitting.table import ExcludedPoint, SizeMean
from transvae_platform.fitting.variance import Variance, Variances

# Raise when a key of to_dict() changes its meaning or disappears.
SCHEMA_VERSION = 2
# Samples of law and band in the JSON: smooth to the eye at page width (assumption).
DRAWING_POINTS = 41


@dataclass(frozen=True)
class Prediction:
    """The law at one x, with its interval (for the law, not for one more training run), or the refusal.

    warning: what to know of a prediction further out than the simulated intervals were checked.
    """

    x: float
    value: float | None
    lower: float | None
    upper: float | None
    refusal: Refusal | None
    warning: str | None = None


@dataclass(frozen=True)
class FamilyFit:
    """One family. law, solution and intervals are None where refused; `variance` is the one the intervals use.

    The *_own intervals use the family's own variance and are shown beside pooled ones.
    """

    family: str
    x_name: str
    sizes: tuple[SizeMean, ...]
    seed_sd: float | None
    law: Law | None
    solution: Solution | None
    variance: Variance | None
    alpha_interval: Interval | None
    E_interval: Interval | None
    alpha_interval_own: Interval | None
    E_interval_own: Interval | None
    gain: Gain | None
    monotone: Monotone | None
    hold_out: HoldOut | None
    saturation: Saturation | None
    refusals: tuple[Refusal, ...]
    verdict: str
    problem: Problem | None = field(default=None, repr=False, compare=False, metadata={"json": False})
    alphas: AlphaSet | None = field(default=None, repr=False, compare=False, metadata={"json": False})

    @property
    def n_sizes(self) -> int:
        return len(self.sizes)

    @property
    def alpha(self) -> float | None:
        return None if self.law is None else self.law.alpha

    @property
    def E(self) -> float | None:  # noqa: N802 - the law's own letter
        return None if self.law is None else self.law.E

    @property
    def A(self) -> float | None:  # noqa: N802 - the law's own letter
        """For raw x."""
        return None if self.law is None else self.law.A

    @property
    def residuals(self) -> dict[str, float]:
        """Relative residual 1 - L(x)/mean of each size; empty where no law is given."""
        if self.solution is None:
            return {}
        return {s.size: r for s, r in zip(self.sizes, self.solution.residuals, strict=True)}

    @property
    def condition(self) -> float | None:
        """Of the squared errors' second derivatives in (E, A0, alpha) at the optimum, by Gauss and Newton."""
        if self.law is None or self.law.alpha is None:
            return None
        x, y = np.array([s.x for s in self.sizes]), np.array([s.mean for s in self.sizes])
        power = (x / self.law.N0) ** -self.law.alpha
        slopes = np.column_stack([np.ones_like(x), power, -self.law.A0 * power * np.log(x / self.law.N0)])
        return float(np.linalg.cond(slopes / y[:, None]) ** 2)

    def curve(self, xs: ArrayLike) -> FloatArray:
        """The law at xs; NaN without a law and beyond MAX_EXTRAPOLATION times the range of the sizes, either way."""
        x = np.asarray(xs, dtype=np.float64)
        if self.law is None:
            return np.full_like(x, np.nan)
        return np.where(self._drawable(x), self.law(x), np.nan)

    def band(self, xs: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Pointwise interval of the law at xs, (lower, upper); NaN where curve() is, or where no interval is given."""
        x = np.asarray(xs, dtype=np.float64)
        lower, upper = np.full_like(x, np.nan), np.full_like(x, np.nan)
        if self.problem is not None and self.alphas is not None:
            inside = self._drawable(x)
            if inside.any():
                lower[inside], upper[inside] = prediction_ends(self.problem, self.alphas, x[inside])
        return lower, upper

    def predict(self, x: float, *, far: bool = False) -> Prediction:
        """The law at one x > 0, refused beyond MAX_EXTRAPOLATION times the largest size or below the smallest.

        far: up to MAX_WITH_WARNING times, with a warning that holds the back-test's error.
        """
        if self.law is None:
            reason = Refusal("no-law", self.family, "no law is fitted to predict from", "see its other refusals")
            return Prediction(x, None, None, None, reason)
        limit = MAX_WITH_WARNING if far else MAX_EXTRAPOLATION
        refusal = extrapolation(self.family, x, self.sizes[-1].x, self.x_name, limit, self.sizes[0].x)
        if refusal is not None:
            return Prediction(x, None, None, None, refusal)
        lower = upper = None
        if self.problem is not None and self.alphas is not None:
            lower, upper = (float(end[0]) for end in prediction_ends(self.problem, self.alphas, [x]))
        return Prediction(x, float(self.law(x)), lower, upper, None, self._warning(x))

    def _warning(self, x: float) -> str | None:
        times = x / self.sizes[-1].x
        if self.sizes[0].x / x > MAX_EXTRAPOLATION:
            return f"{self.sizes[0].x / x:.1f} times below the smallest size, where nothing has been checked"
        if times <= MAX_EXTRAPOLATION:
            return None
        tested = "no size could be held out"
        if self.hold_out is not None:
            out = self.hold_out.x / self.sizes[-2].x
            tested = f"the back-test, {out:.1f} times out, missed by {100 * self.hold_out.error:+.2g} %"
        return f"{times:.1f} times the largest size, where no interval has been checked; {tested}"

    def _drawable(self, x: FloatArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
        low, high = self.sizes[0].x / MAX_EXTRAPOLATION, self.sizes[-1].x * MAX_EXTRAPOLATION
        return np.asarray((x >= low) & (x <= high))

    def _drawing(self) -> dict[str, Any] | None:
        """Samples of law and band over the range that may be drawn, for pages that read the JSON."""
        if self.law is None:
            return None
        xs = np.geomspace(self.sizes[0].x, self.sizes[-1].x * MAX_EXTRAPOLATION * (1 - 1e-12), DRAWING_POINTS)
        lower, upper = self.band(xs)
        return {"x": xs.tolist(), "law": self.curve(xs).tolist(), "lower": lower.tolist(), "upper": upper.tolist()}


@dataclass(frozen=True)
class FitReport:
    """The whole answer for one metric. gain_contrasts come first: they need no law and tell more at few sizes."""

    metric: str
    x_name: str
    level: float
    families: tuple[FamilyFit, ...]
    gain_contrasts: tuple[Contrast, ...]
    alpha_contrasts: tuple[Contrast, ...]
    ratios: tuple[Contrast, ...]
    """Losses at equal x, by interpolation."""
    shared_floor: SharedFloor | None
    """A sensitivity, labelled as such."""
    variances: Variances
    """Each family's own, the pooled one, and the tests that decide between them."""
    refusals: tuple[Refusal, ...]
    excluded: tuple[ExcludedPoint, ...]
    provenance: Mapping[str, Any]

    def family(self, name: str) -> FamilyFit:
        """KeyError with the known names for an unknown family."""
        known = {f.family: f for f in self.families}
        if name not in known:
            raise KeyError(f"no family {name!r} in this report; it has {', '.join(sorted(known)) or 'none'}")
        return known[name]

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe: numbers that are not finite become null (an unbounded end also has its bounded_* flag false)."""
        out: dict[str, Any] = {"schema_version": SCHEMA_VERSION, **_plain(self)}
        for entry, fit in zip(out["families"], self.families, strict=True):
            entry |= _plain({"n_sizes": fit.n_sizes, "alpha": fit.alpha, "E": fit.E, "A": fit.A})
            entry["condition"] = _plain(fit.condition)
            entry |= _plain({"residuals": fit.residuals, "drawing": fit._drawing()})
        return out


def _plain(value: Any) -> Any:
    """Dataclasses to dicts, tuples to lists, numpy numbers to Python's, numbers that are not finite to None."""
    if isinstance(value, Refusal):
        return {**{f.name: getattr(value, f.name) for f in dataclasses.fields(value)}, "sentence": value.sentence}
    if dataclasses.is_dataclass(value):
        shown = [f for f in dataclasses.fields(value) if f.metadata.get("json", True)]
        return {f.name: _plain(getattr(value, f.name)) for f in shown}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else repr(value)
