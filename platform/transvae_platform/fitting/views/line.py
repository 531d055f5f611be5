"""A straight line through logarithms: y = coefficient * x^exponent, by ordinary least squares of ln y on ln x.

Statistics: t interval of the exponent with n - 2 degrees of freedom, for points that are independent of each other.
R^2 is not computed: 0.999 belongs to an exponent of 0.83 and to one of 0.50 in the data of Porian et al.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from transvae_platform.fitting.laws.forms import FloatArray


@dataclass(frozen=True)
class Line:
    """y = coefficient * x^exponent; error: standard error of the exponent (None for two points)."""

    exponent: float
    coefficient: float
    error: float | None
    points: int

    def __call__(self, x: ArrayLike) -> FloatArray:
        return np.asarray(self.coefficient * np.asarray(x, dtype=np.float64) ** self.exponent)

    def interval(self, level: float) -> tuple[float, float] | None:
        """t interval of the exponent; None where there is no error."""
        if self.error is None:
            return None
        half = float(stdtrit(self.points - 2, (1 + level) / 2)) * self.error
        return self.exponent - half, self.exponent + half


def fit_line(x: ArrayLike, y: ArrayLike) -> Line:
    """ValueError unless x holds two different positive values and y is positive."""
    x_n, y_n = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x_n.shape != y_n.shape or not (np.isfinite(x_n).all() and np.isfinite(y_n).all() and (x_n > 0).all()
                                      and (y_n > 0).all()):  # fmt: skip
        raise ValueError("a line through logarithms needs finite positive x and y")
    if len(set(x_n.tolist())) < 2:
        raise ValueError("a line needs at least two different x")
    log_x, log_y = np.log(x_n) - np.log(x_n).mean(), np.log(y_n)
    spread = float(log_x @ log_x)
    slope = float(log_x @ log_y) / spread
    rest = log_y - log_y.mean() - slope * log_x
    error = math.sqrt(float(rest @ rest) / (len(x_n) - 2) / spread) if len(x_n) > 2 else None
    return Line(slope, math.exp(float(log_y.mean()) - slope * float(np.log(x_n).mean())), error, len(x_n))
