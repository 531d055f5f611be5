"""How far the fit would move with other runs: whole runs are drawn with replacement, never single checkpoints.

The points of one run are one cluster: they share its seed and its luck. A replicate is a vector of integer weights on
the same points, so thousands are refitted at once from the full fit. A term that has vanished there would be lost to
all of them (the objective is flat along its logarithm): then each starts again with every term present, and keeps the
lower of its two optima. Only for many runs: with 1 to 3 seeds per size a
bootstrap over seeds covers 11 to 81 % where it claims 90 % (measured), see `refusals.few_runs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from transvae_platform.fitting.laws.fit import LawFit
from transvae_platform.fitting.laws.forms import Columns, FloatArray
from transvae_platform.fitting.laws.models import SumModel
from transvae_platform.fitting.laws.newton import Minimum, gradient_tolerance, minimise
from transvae_platform.fitting.laws.start import PRESENT, with_every_term

MIN_RUNS = 30
DRAWS = 500  # replicates that a band of the law is made of
LOWER = 1e-9  # by so much, relative, an objective must fall to be another optimum
NEGLIGIBLE = 1e-3  # a term of so small a share of the loss cannot be told from none (assumption)


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """theta (B, P) and objectives (B,) of the replicates; failed: those whose gradient did not vanish.

    moved: those for which a start with every term present found a lower optimum; None where no term had vanished.
    """

    fit: LawFit
    theta: FloatArray
    objective: FloatArray
    seed: int
    runs: int
    failed: int
    moved: int | None

    def values(self) -> dict[str, FloatArray]:
        """Every parameter's replicates by name, each (B,)."""
        return self.fit.model.natural(self.theta)

    def errors(self) -> dict[str, float]:
        """Standard errors."""
        with np.errstate(over="ignore", invalid="ignore"):  # amplitudes of terms that vanish have none
            return {name: float(np.std(values, ddof=1)) for name, values in self.values().items()}

    def interval(self, name: str, level: float) -> tuple[float, float]:
        """Percentile interval of a parameter."""
        return _percentiles(self.values()[name], level)

    def vanishes(self, amplitude: str, level: float) -> bool:
        """Whether the lower end of an amplitude's interval is nothing beside the loss: its term may not be there."""
        share = np.exp(self.theta[:, self.fit.form.parameters.index(amplitude)]) / self.fit.model.unit
        return _percentiles(share, level)[0] < NEGLIGIBLE

    def prediction(self, columns: Columns, level: float, draws: int = DRAWS) -> tuple[FloatArray, FloatArray]:
        """Percentile band of the LAW at other points, (lower, upper), from the first `draws` replicates."""
        curves = np.stack([self.fit.model.predict(theta, columns) for theta in self.theta[:draws]])
        low, high = np.quantile(curves, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return low, high


def bootstrap(
    fit: LawFit, *, replicates: int, seed: int, runs: Sequence[object] | None = None, threads: int | None = None
) -> Bootstrap:
    """Refits `replicates` resamples of whole runs. runs: the run of each point (default: each point is one)."""
    weights, count = resample(len(fit.y), replicates, seed, runs)
    start = np.broadcast_to(fit.theta, (replicates, len(fit.theta)))
    found, moved = minimise(fit.model, start, weights * fit.weights, fit.robust, threads), None
    if isinstance(fit.model, SumModel) and _lacks_a_term(fit.model, fit.theta):
        start = np.broadcast_to(with_every_term(fit.model, fit.weights), start.shape)
        found, moved = _lower(found, minimise(fit.model, start, weights * fit.weights, fit.robust, threads))
    failed = int((found.gradient > 100 * gradient_tolerance(fit.robust)).sum())
    return Bootstrap(fit, found.theta, found.f, seed, count, failed, moved)


def _lacks_a_term(model: SumModel, theta_P: FloatArray) -> bool:
    """Whether a term of the fit is so small that no replicate would find it again."""
    return bool((np.exp(theta_P[: len(model.form.terms)]) < PRESENT * model.unit).any())


def _lower(first: Minimum, second: Minimum) -> tuple[Minimum, int]:
    """The better of two optima of every replicate, and how often that is the second."""
    better = second.f < first.f * (1 - LOWER)
    best = [np.where(better[:, None] if a.ndim > 1 else better, b, a) for a, b in (
        (first.theta, second.theta), (first.f, second.f), (first.gradient, second.gradient),
        (first.iterations, second.iterations),
    )]  # fmt: skip
    return Minimum(*best), int(better.sum())


def resample(points: int, replicates: int, seed: int, runs: Sequence[object] | None = None) -> tuple[FloatArray, int]:
    """How often each point is drawn in each replicate (B, n), and the number of runs.

    NumPy's legacy generator: its numbers are those of `np.random.seed(seed); np.random.choice(runs, size)` once per
    replicate, which is how the published bootstrap of the Chinchilla fit was drawn.
    """
    number = np.arange(points) if runs is None else np.unique([str(run) for run in runs], return_inverse=True)[1]
    count = int(number.max()) + 1
    drawn = np.random.RandomState(seed).randint(0, count, size=(replicates, count))
    flat = np.bincount((drawn + count * np.arange(replicates)[:, None]).ravel(), minlength=replicates * count)
    return flat.reshape(replicates, count)[:, number].astype(np.float64), count


def _percentiles(values: FloatArray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
