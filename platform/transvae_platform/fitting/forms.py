"""The scaling laws that can be fitted, as data, and the fitted law itself.

x is the scaling variable (parameters or training FLOPs, > 0), L the loss-type metric (> 0, lower is better).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Form:
    """One functional form. `with_floor` says whether the irreducible loss E is a free parameter (E >= 0) or 0."""

    name: str
    expression: str
    parameters: tuple[str, ...]
    with_floor: bool


# L(N) of Hoffmann et al. (Chinchilla, arXiv 2203.15556) with the token term left out: every size of a study is
# trained for the same number of images, so that term is a constant and is absorbed by E.
FLOOR_LAW = Form("floor-power-law", "L(x) = E + A x^-alpha", ("E", "A", "alpha"), with_floor=True)
# The naive rival: a straight line in log-log axes. It serves as a baseline only.
POWER_LAW = Form("power-law", "L(x) = A x^-alpha", ("A", "alpha"), with_floor=False)


@dataclass(frozen=True)
class Law:
    """A fitted law L(x) = E + A0 (x/N0)^-alpha, in the metric's own unit.

    E >= 0 is the irreducible loss, A0 >= 0 the reducible loss at x = N0, N0 the geometric mean of the fitted x.
    alpha > 0, or None where the best law is flat (A0 = 0) and no exponent exists.
    """

    E: float
    A0: float
    alpha: float | None
    N0: float

    @property
    def A(self) -> float:  # noqa: N802 - the law's own letter
        """A of E + A x^-alpha for raw x (0 for a flat law); inf only when N0^alpha leaves the range of a double."""
        if self.alpha is None:
            return 0.0
        with np.errstate(over="ignore"):
            return float(self.A0 * np.float64(self.N0) ** self.alpha)

    def __call__(self, xs: ArrayLike) -> FloatArray:
        """The law at raw x (any positive array), in the unit of the metric."""
        x = np.asarray(xs, dtype=np.float64)
        if self.alpha is None:
            return np.full_like(x, self.E)
        return np.asarray(self.E + self.A0 * (x / self.N0) ** -self.alpha, dtype=np.float64)
