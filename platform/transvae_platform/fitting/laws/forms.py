"""Laws of several variables, as data: sums of powers, and forms that a user registers.

A sum of powers L = sum_k amplitude_k * prod_v v^(sign * exponent) has closed-form first and second derivatives in
(ln amplitude, exponent), so it needs no code of its own. Sources: L(N, D) is approach 3 of Chinchilla (arXiv
2203.15556); the token-multiplier form is that of Gadre et al. (arXiv 2403.08540).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
Columns: TypeAlias = Mapping[str, FloatArray]

# Range of the start grid for exponents (scaling-law practice: published exponents of losses lie in 0.03 to 0.9).
EXPONENTS = (0.05, 1.5)


@dataclass(frozen=True)
class Term:
    """amplitude * prod of variable^(sign * exponent) * prod of constant^exponent.

    powers: (variable, exponent, sign); shifts: (exponent, ln of the constant).
    """

    amplitude: str
    powers: tuple[tuple[str, str, float], ...] = ()
    shifts: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class SumOfPowers:
    """One law as a sum of terms; amplitudes are >= 0 and fitted as logarithms.

    ranges: where the start grid looks for each exponent. sizes: distinct values that each variable needs before the
    parameters that belong to it mean anything.
    """

    name: str
    expression: str
    terms: tuple[Term, ...]
    ranges: Mapping[str, tuple[float, float]]
    sizes: Mapping[str, int]

    @property
    def amplitudes(self) -> tuple[str, ...]:
        return tuple(term.amplitude for term in self.terms)

    @property
    def exponents(self) -> tuple[str, ...]:
        return tuple(self.ranges)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Amplitudes, then exponents: the order of theta."""
        return (*self.amplitudes, *self.exponents)

    @property
    def variables(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(v for term in self.terms for v, _, _ in term.powers))


@dataclass(frozen=True)
class UserForm:
    """A law that a user brings: L and its gradient at parameters theta (P,), for columns of n points.

    predict(theta, columns) -> (n,), positive; gradient(theta, columns) -> (n, P). The start points are drawn within
    `bounds` (which do not bind the fit). Scale the parameters so that all are of order 1: steps are limited to 0.5.
    """

    name: str
    expression: str
    parameters: tuple[str, ...]
    variables: tuple[str, ...]
    predict: Callable[[FloatArray, Columns], FloatArray]
    gradient: Callable[[FloatArray, Columns], FloatArray]
    bounds: Mapping[str, tuple[float, float]]
    sizes: Mapping[str, int] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)
    """Path, SHA-256 and text of the file that it was loaded from; it goes into every document."""


Form: TypeAlias = SumOfPowers | UserForm

FLOOR = Term("E")
L_OF_N = SumOfPowers(
    "L(N)", "L = E + A N^-alpha", (FLOOR, Term("A", (("N", "alpha", -1.0),))), {"alpha": EXPONENTS}, {"N": 4}
)
POWER = SumOfPowers(
    "power-law", "L = A N^-alpha", (Term("A", (("N", "alpha", -1.0),)),), {"alpha": EXPONENTS}, {"N": 3}
)
L_OF_N_D = SumOfPowers(
    "L(N,D)", "L = E + A N^-alpha + B D^-beta",
    (Term("A", (("N", "alpha", -1.0),)), Term("B", (("D", "beta", -1.0),)), FLOOR),
    {"alpha": EXPONENTS, "beta": EXPONENTS}, {"N": 4, "D": 4},
)  # fmt: skip
# C = 6 N D and D = M N give E + a N^b + beta 6^(b/2) (M N)^b with one exponent for both terms.
GADRE = SumOfPowers(
    "gadre", "L = E + a N^b + beta 6^(b/2) (M N)^b, M = tokens per parameter",
    (
        Term("a", (("N", "b", 1.0),)),
        Term("beta", (("M", "b", 1.0), ("N", "b", 1.0)), (("b", 0.5 * math.log(6.0)),)),
        FLOOR,
    ),
    {"b": (-EXPONENTS[1], -EXPONENTS[0])}, {"N": 4, "M": 2},
)  # fmt: skip

CURVE, ISOFLOP, FRONTIER, ENVELOPE = VIEWS = ("curve", "isoflop", "frontier", "envelope")
"""Names of what is answered without a form: none of them may be given to one."""
_FORMS: dict[str, Form] = {form.name: form for form in (L_OF_N, POWER, L_OF_N_D, GADRE)}


def register(form: Form) -> Form:
    """Makes a form known by its name.

    Raises:
        ValueError: the name is taken, or parameters, variables, sizes and bounds do not fit each other.
    """
    if not isinstance(form.name, str) or not form.name:
        raise ValueError(f"the name of a form is a text, not {form.name!r}")
    if form.name in VIEWS or _FORMS.get(form.name, form) != form:
        raise ValueError(f"a form named {form.name!r} is there already - give yours another name")
    if not (form.variables and form.parameters) or len(set(form.parameters)) < len(form.parameters):
        raise ValueError(f"{form.name}: a law needs at least one variable and parameters of different names")
    if unknown := set(form.sizes) - set(form.variables):
        raise ValueError(f"{form.name}: sizes names {', '.join(unknown)}, which is none of its variables")
    if isinstance(form, UserForm):
        if set(form.bounds) != set(form.parameters):
            raise ValueError(f"{form.name}: bounds must name each of {', '.join(form.parameters)}")
        for name, ends in form.bounds.items():
            if not _two_numbers(ends):
                raise ValueError(f"{form.name}: the bounds of {name} must be two finite numbers, not {ends!r}")
    _FORMS[form.name] = form
    return form


def _two_numbers(ends: object) -> bool:
    try:
        low, high = map(float, ends)  # type: ignore[call-overload]  # a stranger's object: whatever does not is none
    except (TypeError, ValueError):
        return False
    return math.isfinite(low) and math.isfinite(high)


def form_named(name: str) -> Form:
    """A known form. ValueError, with the names of all, for another name."""
    if name not in _FORMS:
        raise ValueError(f"no form is named {name!r} - known are {', '.join(_FORMS)}")
    return _FORMS[name]
