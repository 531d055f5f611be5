"""Back-test: leave the largest size out and predict it from the others, beside two naive rivals.

Statistics: the profile-F interval of a newly trained size at the held-out x (`intervals.new_size_interval`).
df is sizes - 1 - 3 of the family itself, or the pooled sum, by the same rule as for the fits (`variance`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transvae_platform.fitting.forms import POWER_LAW
from transvae_platform.fitting.intervals import Interval, alpha_set, new_size_interval
from transvae_platform.fitting.refusals import Refusal, extrapolation, no_hold_out, not_converged
from transvae_platform.fitting.solve import make_problem, solve
from transvae_platform.fitting.table import FamilyTable
from transvae_platform.fitting.variance import choose_variances


@dataclass(frozen=True)
class HoldOut:
    """Prediction of the largest size's mean loss; errors are relative, (predicted - measured) / measured."""

    family: str
    size: str
    x: float
    measured: float
    predicted: float
    error: float
    interval: Interval
    inside: bool
    power_law: float
    power_law_error: float
    last_value: float
    last_value_error: float

    @property
    def beats_baselines(self) -> bool:
        return abs(self.error) < min(abs(self.power_law_error), abs(self.last_value_error))


def back_test(tables: Sequence[FamilyTable], x_name: str, level: float) -> dict[str, HoldOut | Refusal]:
    """One hold-out, or the reason for none, per family; those that scatter alike share their variance."""
    answers: dict[str, HoldOut | Refusal] = {}
    fits = {}
    for table in tables:
        refusal = no_hold_out(table.family, len(table.sizes))
        refusal = refusal or extrapolation(table.family, table.x[-1], table.x[-2], x_name)
        if refusal is None:
            problem = make_problem(table.x[:-1], table.y[:-1])
            solution = solve(problem)
            refusal = not_converged(table.family, solution)
            fits[table] = (problem, solution)
        if refusal is not None:
            answers[table.family] = refusal
            fits.pop(table, None)
    variances = choose_variances({t.family: (s.sse, len(t.sizes) - 4) for t, (_, s) in fits.items()})
    for table, (problem, solution) in fits.items():
        variance = variances.of(table.family) or variances.own[table.family]
        largest = table.sizes[-1]
        predicted = float(solution.law(largest.x))
        alphas = alpha_set(problem, solution, variance, level)
        interval = new_size_interval(problem, alphas, largest.x, predicted, variance, level)
        power = float(solve(make_problem(table.x[:-1], table.y[:-1], POWER_LAW)).law(largest.x))
        last = table.y[-2]
        answers[table.family] = HoldOut(
            table.family, largest.size, largest.x, largest.mean, predicted, predicted / largest.mean - 1.0,
            interval, interval.lower <= largest.mean <= interval.upper,
            power, power / largest.mean - 1.0, last, last / largest.mean - 1.0,
        )  # fmt: skip
    return answers
