"""Objective, gradient and Hessian of a form on a table, for a batch of parameter vectors and weights at once.

f = sum_i w_i Huber_delta(r_i), a SUM, not a mean: a mean of 1e-6 looks converged to a solver that is far off. Residuals
r are ln y - ln L ("log") or (y - L) / the geometric mean of y ("linear", so that no tolerance depends on the unit of
the loss); delta bounds r and may be inf (least squares). Shapes: B replicates, n points, P
parameters. A sum of powers is fitted in (ln amplitude, exponent) of centred logarithms, where Newton's steps of
different parameters are of one size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from transvae_platform.fitting.laws.forms import Columns, FloatArray, Form, SumOfPowers, UserForm

Residuals = Literal["log", "linear"]
# Step of the central difference that makes second derivatives of a user's gradient: cube root of the round-off.
DIFFERENCE = 6e-6
WRONG = 1e-3  # a gradient that far from differences of the prediction is wrong (assumption)


@dataclass(frozen=True)
class Robust:
    """How residuals are measured and bounded."""

    delta: float
    residuals: Residuals = "log"


class Model(Protocol):
    """A form on a table: what the solver needs."""

    @property
    def theta_names(self) -> tuple[str, ...]: ...

    @property
    def unit(self) -> float:
        """Of linear residuals: the geometric mean of the losses."""

    def derivatives(
        self, theta_BP: FloatArray, w_Bn: FloatArray, robust: Robust
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """f (B,), gradient (B, P), Hessian (B, P, P); f is inf where the law cannot be evaluated."""

    def predict(self, theta_P: FloatArray, columns: Columns) -> FloatArray:
        """The law at other points, in the unit of the loss."""

    def natural(self, theta_BP: FloatArray) -> dict[str, FloatArray]:
        """Parameters by name in the form's own scale, each (B,)."""


def make_model(form: Form, columns: Columns, y: FloatArray) -> Model:
    """Columns and y > 0 are arrays of one length n."""
    return UserModel(form, columns, y) if isinstance(form, UserForm) else SumModel(form, columns, y)


class SumModel:
    """A sum of powers; see the head of the file."""

    def __init__(self, form: SumOfPowers, columns: Columns, y: FloatArray) -> None:
        self.form, self.y, self.log_y = form, y, np.log(y)
        self.unit = _unit(y)
        raw = _design(form, columns)
        # centred per term: then an amplitude is the term's size in the middle of the data
        self.means = [{e: float(z.mean()) for e, z in exponents.items()} for exponents in raw]
        order = {name: i for i, name in enumerate(form.parameters)}
        self.index = [[k, *(order[e] for e in exponents)] for k, exponents in enumerate(raw)]
        self.Z = [
            np.column_stack([np.ones_like(y), *(z - mean[e] for e, z in exponents.items())])
            for exponents, mean in zip(raw, self.means, strict=True)
        ]
        self.products = {
            (k, m): (self.Z[k][:, :, None] * self.Z[m][:, None, :]).reshape(len(y), -1)
            for k in range(len(raw))
            for m in range(k, len(raw))
        }

    @property
    def theta_names(self) -> tuple[str, ...]:
        return self.form.parameters

    def terms(self, theta_BP: FloatArray) -> list[FloatArray]:
        """The size of each term at each point, (B, n)."""
        return [np.exp(theta_BP[:, i] @ z.T) for i, z in zip(self.index, self.Z, strict=True)]

    def derivatives(
        self, theta_BP: FloatArray, w_Bn: FloatArray, robust: Robust
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        log, delta = robust.residuals == "log", robust.delta
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            u = self.terms(theta_BP) if log else [term / self.unit for term in self.terms(theta_BP)]
            total = u[0].copy()
            for term in u[1:]:
                total += term
            r = self.log_y - np.log(total) if log else self.y / self.unit - total
            psi = np.clip(r, -delta, delta)
            c1 = w_Bn * psi
            f = np.einsum("bn,bn->b", c1, r - 0.5 * psi)
            inside = w_Bn * (psi == r)
            if log:
                inside += c1
                np.divide(1.0, total, out=total)
                for term in u:
                    term *= total
        gradient = np.zeros_like(theta_BP)
        hessian = np.zeros((*theta_BP.shape, theta_BP.shape[1]))
        for k, i in enumerate(self.index):
            pull = c1 * u[k]
            bend = inside * u[k]
            gradient[:, i] -= pull @ self.Z[k]
            for m in range(k, len(u)):
                j, weight = self.index[m], bend * u[m]
                if m == k:
                    weight -= pull
                block = (weight @ self.products[k, m]).reshape(-1, len(i), len(j))
                hessian[:, np.array(i)[:, None], j] += block
                if m > k:
                    hessian[:, np.array(j)[:, None], i] += block.transpose(0, 2, 1)
        f[~np.isfinite(f)] = np.inf
        return f, gradient, hessian

    def predict(self, theta_P: FloatArray, columns: Columns) -> FloatArray:
        natural, total = self.natural(theta_P[None]), 0.0
        for term, exponents in zip(self.form.terms, _design(self.form, columns), strict=True):
            log_size = sum(natural[e][0] * z for e, z in exponents.items())
            total = total + natural[term.amplitude][0] * np.exp(log_size)
        return np.broadcast_to(np.asarray(total), len(next(iter(columns.values())))).astype(np.float64)

    def natural(self, theta_BP: FloatArray) -> dict[str, FloatArray]:
        values = dict(zip(self.theta_names, theta_BP.T, strict=True))
        amplitudes = {
            term.amplitude: np.exp(values[term.amplitude] - sum((values[e] * m for e, m in mean.items()), 0.0))
            for term, mean in zip(self.form.terms, self.means, strict=True)
        }
        return {**amplitudes, **{e: values[e] for e in self.form.exponents}}


def check_form(form: UserForm, columns: Columns) -> None:
    """That a user's functions have the right shapes, and that the gradient is that of the prediction.

    Raises:
        ValueError: names the function and what is wrong with it.
    """
    middle = np.array([sum(form.bounds[name]) / 2 for name in form.parameters])
    points = len(next(iter(columns.values())))
    try:
        law, slope = np.asarray(form.predict(middle, columns)), np.asarray(form.gradient(middle, columns))
        steps = np.diag(DIFFERENCE * np.maximum(1.0, np.abs(middle)))
        ends = [np.asarray(form.predict(middle + s, columns) - form.predict(middle - s, columns)) for s in steps]
    except Exception as error:  # noqa: BLE001 - a stranger's code may raise anything
        raise _failed(error, middle) from None
    for name, found, wanted in (("predict", law, (points,)), ("gradient", slope, (points, len(middle)))):
        if found.shape != wanted:
            raise ValueError(f"{name} gives shape {found.shape}, not {wanted}")
    for k, name in enumerate(form.parameters):
        difference = ends[k] / (2 * steps[k, k])
        if np.isfinite(difference).all() and not np.allclose(
            slope[:, k], difference, rtol=WRONG, atol=WRONG * float(np.abs(difference).max())
        ):
            raise ValueError(f"the gradient of {name} is not that of predict (differences say otherwise)")


def _failed(error: Exception, theta: FloatArray) -> ValueError:
    at = ", ".join(f"{value:.4g}" for value in theta.tolist())
    return ValueError(f"the form's function fails with {type(error).__name__}: {error} (at parameters {at})")


class UserModel:
    """A registered form, one replicate after the other; second derivatives are differences of its gradient."""

    def __init__(self, form: UserForm, columns: Columns, y: FloatArray) -> None:
        self.form, self.columns, self.y, self.log_y = form, columns, y, np.log(y)
        self.unit = _unit(y)

    @property
    def theta_names(self) -> tuple[str, ...]:
        return self.form.parameters

    def derivatives(
        self, theta_BP: FloatArray, w_Bn: FloatArray, robust: Robust
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        size = theta_BP.shape[1]
        f, g, h = np.empty(len(theta_BP)), np.empty_like(theta_BP), np.empty((*theta_BP.shape, size))
        for b, (theta, w) in enumerate(zip(theta_BP, w_Bn, strict=True)):
            f[b], g[b] = self._first(theta, w, robust)
            steps = DIFFERENCE * np.maximum(1.0, np.abs(theta))
            ends = [[self._first(theta + sign * step, w, robust)[1] for sign in (1, -1)] for step in np.diag(steps)]
            h[b] = [(up - down) / (2 * step) for (up, down), step in zip(ends, steps, strict=True)]
            h[b] = (h[b] + h[b].T) / 2
        f[~(np.isfinite(f) & np.isfinite(g).all(1) & np.isfinite(h).all((1, 2)))] = np.inf
        return f, g, h

    def _first(self, theta: FloatArray, w: FloatArray, robust: Robust) -> tuple[float, FloatArray]:
        with np.errstate(all="ignore"):
            try:
                law, slope = self.form.predict(theta, self.columns), self.form.gradient(theta, self.columns)
            except Exception as error:  # noqa: BLE001 - the search leaves the bounds, where it may raise anything
                raise _failed(error, theta) from None
            log = robust.residuals == "log"
            r = self.log_y - np.log(law) if log else (self.y - law) / self.unit
            psi = np.clip(r, -robust.delta, robust.delta)
            f = float((w * psi) @ (r - 0.5 * psi))
            return f, -(w * psi / (law if log else self.unit)) @ slope

    def predict(self, theta_P: FloatArray, columns: Columns) -> FloatArray:
        try:
            return np.asarray(self.form.predict(theta_P, columns), dtype=np.float64)
        except Exception as error:  # noqa: BLE001 - points that were held out may lie where it raises anything
            raise _failed(error, theta_P) from None

    def natural(self, theta_BP: FloatArray) -> dict[str, FloatArray]:
        return dict(zip(self.theta_names, theta_BP.T, strict=True))


def _unit(y: FloatArray) -> float:
    return float(np.exp(np.log(y).mean()))


def _design(form: SumOfPowers, columns: Columns) -> list[Mapping[str, FloatArray]]:
    """Per term: what each of its exponents is multiplied with, (n,)."""
    designs: list[Mapping[str, FloatArray]] = []
    for term in form.terms:
        found: dict[str, FloatArray] = {}
        for variable, exponent, sign in term.powers:
            found[exponent] = found.get(exponent, 0.0) + sign * np.log(columns[variable])
        for exponent, shift in term.shifts:
            found[exponent] = found[exponent] + shift
        designs.append(found)
    return designs
