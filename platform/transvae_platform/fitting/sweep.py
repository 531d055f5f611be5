"""What Huber's delta does to L(N): a sensitivity beside the least squares that the intervals rest on.

Huber's bound on log residuals, summed, takes outliers among many points. Among the five size means of a family there
is nothing to tell an outlier from: a small delta lets the law pass through three of them and ignores the rest. So L(N)
is fitted by least squares, to which its intervals belong (F has no meaning for a bounded loss), and the other answers
are listed: where they lie far apart, one size decides the exponent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from transvae_platform.fitting.laws.fit import SWEEP, fit_law
from transvae_platform.fitting.laws.forms import L_OF_N
from transvae_platform.fitting.laws.models import Robust
from transvae_platform.fitting.report import FamilyFit


@dataclass(frozen=True)
class Swept:
    """The law at one delta ("inf": least squares of logarithms). objective: the sum; doubts: what its proof lacks,
    empty when the optimum is proven."""

    delta: float | str
    alpha: float
    E: float
    A: float
    objective: float
    gradient: float
    starts: int
    starts_agreeing: int
    doubts: tuple[str, ...]


def family_sweep(fit: FamilyFit, delta: float | None = None) -> tuple[Swept, ...]:
    """The law of one family for every delta of the sweep and one more; empty where none is given.

    E and A are positive here, because the fit takes their logarithms: a floor of 0 is a very small one.
    """
    if fit.law is None or fit.law.alpha is None:
        return ()
    x, y = np.array([s.x for s in fit.sizes]), np.array([s.mean for s in fit.sizes])
    return tuple(_at(x, y, d) for d in _deltas(delta))


def _deltas(asked: float | None) -> Sequence[float]:
    return sorted({*SWEEP, *(() if asked is None else (asked,))})


def _at(x: np.ndarray, y: np.ndarray, delta: float) -> Swept:
    found = fit_law(L_OF_N, {"N": x}, y, Robust(delta))
    law = found.parameters
    return Swept(
        "inf" if np.isinf(delta) else delta, law["alpha"], law["E"], law["A"], found.objective, found.gradient,
        found.starts, found.agreeing, tuple(found.doubts),
    )  # fmt: skip
