"""What a law of several variables declines to say; each reason with the data that would lift it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from transvae_platform.fitting.laws.bootstrap import MIN_RUNS
from transvae_platform.fitting.laws.fit import LawFit
from transvae_platform.fitting.laws.forms import Columns, FloatArray, Form, SumOfPowers, Term
from transvae_platform.fitting.refusals import GROWTH, Refusal

MANY_PARAMETERS, MANY_SIZES = 6, 10
"""Broken laws and their like: with so many parameters fewer sizes fit anything."""
TOGETHER = 0.05  # of its spread that a logarithm may keep beside another one before the two count as one (assumption)
NOTHING = 1e-6  # a term this small beside the loss is absent


def refusals_before(form: Form, columns: Columns, loss: FloatArray) -> list[Refusal]:
    """What makes a fit pointless before it is done."""
    found = []
    for variable, needed in form.sizes.items():
        count = len(np.unique(columns[variable]))
        if count < needed:
            found.append(
                Refusal(
                    "too-few-sizes",
                    form.name,
                    f"{count} distinct {variable}, and the parameters of {variable} mean nothing below {needed}",
                    f"runs at {needed} or more values of {variable} would do",
                )
            )
    first = form.variables[0]
    distinct = len(np.unique(columns[first]))
    if len(form.parameters) >= MANY_PARAMETERS and distinct < MANY_SIZES:
        found.append(
            Refusal(
                "too-many-parameters",
                form.name,
                f"{len(form.parameters)} parameters and {distinct} distinct {first}: such a law fits any {distinct}",
                f"{MANY_SIZES} sizes would be needed",
            )
        )
    distinct = places(form, columns)
    if distinct <= len(form.parameters) < len(loss):
        found.append(
            Refusal(
                "too-few-places",
                form.name,
                f"{distinct} distinct points for {len(form.parameters)} parameters leave nothing to check the law with",
                f"{len(form.parameters) + 1} different values of {', '.join(form.variables)} would be the least",
            )
        )
    if len(loss) <= len(form.parameters):
        found.append(
            Refusal(
                "too-few-points",
                form.name,
                f"{len(loss)} points for {len(form.parameters)} parameters leave nothing to check the law with",
                f"{len(form.parameters) + 1} points would be the least",
            )
        )
    return found + _mirrored(form, columns)


def _mirrored(form: Form, columns: Columns) -> list[Refusal]:
    """Terms whose variables rise together, as in runs of a fixed number of images per parameter.

    Exchanged, such terms give the same law, so starts agree on the objective and not on the exponents.
    """
    terms = [t for t in form.terms if len(t.powers) == 1] if isinstance(form, SumOfPowers) else []
    for a, b in combinations(terms, 2):
        (first, exponent, sign), (second, other, other_sign) = a.powers[0], b.powers[0]
        x, y = sign * np.log(columns[first]), other_sign * np.log(columns[second])
        if exponent == other or not (np.ptp(x) > 0 and np.ptp(y) > 0):
            continue
        if float(np.corrcoef(x, y)[0, 1]) > np.sqrt(1 - TOGETHER**2):
            why = (
                f"{first} and {second} rise together, so the terms of {a.amplitude} and {b.amplitude} can be exchanged "
                f"and neither {exponent} nor {other} can be told"
            )
            return [Refusal("mirrored-terms", form.name, why, f"runs of different {second} at equal {first} would do")]
    return []


def growing(form: Form, columns: Columns, loss: FloatArray) -> list[Refusal]:
    """A loss that grows with each of the form's variables, by the slopes of its logarithm."""
    logs = [np.log(columns[v]) for v in form.variables]
    slopes = np.linalg.lstsq(np.column_stack([np.ones_like(loss), *logs]), np.log(loss), rcond=None)[0][1:]
    rises = [float(np.expm1(slope * np.ptp(log))) for slope, log in zip(slopes, logs, strict=True)]
    if min(rises) <= GROWTH:
        return []
    by = ", ".join(
        f"{name} (by {100 * rise:.2g} % over its range)" for name, rise in zip(form.variables, rises, strict=True)
    )
    why = f"the loss grows with {by}, and the law is of one that falls"
    return [Refusal("rising-metric", form.name, why, "fit the loss behind it (for an accuracy the error)")]


def too_few_for_bootstrap(form: Form, columns: Columns, runs: int) -> Refusal | None:
    """A bootstrap of runs asks for many runs, at many places: those of one place share the misfit of the law there."""
    distinct = places(form, columns)
    if runs >= MIN_RUNS and distinct >= MIN_RUNS:
        return None
    variables, what = ", ".join(form.variables), "runs" if runs < MIN_RUNS else "places"
    many = f"{runs} runs" if runs < MIN_RUNS else f"{runs} runs at {distinct} distinct values of {variables}"
    return Refusal(
        "no-interval",
        form.name,
        f"{many}: a bootstrap of so few {what} covers far less than it claims",
        f"{MIN_RUNS} runs, no two at one place, would carry one; or size means with profile intervals: --form 'L(N)'",
    )


def places(form: Form, columns: Columns) -> int:
    """How many distinct points the variables take."""
    return len(np.unique(np.column_stack([columns[v] for v in form.variables]), axis=0))


def refusals_after(fit: LawFit, columns: Columns, no_bootstrap: Refusal | None) -> list[Refusal]:
    """What the optimum does not support."""
    name, found = fit.form.name, [*_grows(fit, columns)]
    if not fit.converged:
        found.append(
            Refusal(
                "not-converged",
                name,
                f"the optimum is not proven: {'; '.join(fit.doubts)}",
                "a simpler form, or points further apart, would make it sharp",
            )
        )
    if no_bootstrap is not None:
        found.append(no_bootstrap)
    return [*found, *_strange(fit)]


def term_vanishes(term: Term) -> Refusal:
    others = "".join(f", nor has {exponent}" for _, exponent, _ in term.powers)
    return Refusal(
        "vanishing-term",
        term.amplitude,
        f"its term vanishes in resamples of the runs, so it has no interval{others}",
        "a wider range, or less scatter, may show what these points do not",
    )


def _strange(fit: LawFit) -> list[Refusal]:
    """Exponents that no loss is known to have: the points hardly determine them, or the loss grows."""
    found: list[Refusal] = []
    for exponent, ends in fit.form.ranges.items() if isinstance(fit.form, SumOfPowers) else ():
        value, (least, most) = fit.parameters[exponent], sorted(map(abs, ends))
        if value * ends[0] <= 0:
            why = f"its best value {value:.3g} is that of a loss which does not fall"
        elif not least / 5 <= abs(value) <= 2 * most:
            why = f"its best value {value:.3g} is none that losses are known to have"
        else:
            continue
        lift = "a wider range of sizes, or a loss that falls with each variable, would determine it"
        found.append(Refusal("strange-exponent", exponent, why, lift))
    return found


def _grows(fit: LawFit, columns: Columns) -> Sequence[Refusal]:
    """Terms that vanish: the loss does not fall with their variable."""
    if not isinstance(fit.form, SumOfPowers):
        return ()
    found = []
    for term in fit.form.terms:
        size = np.full_like(fit.y, fit.parameters[term.amplitude])
        for variable, exponent, sign in term.powers:
            size = size * columns[variable] ** (sign * fit.parameters[exponent])
        if np.max(size / fit.y) < NOTHING:
            why = "the loss does not fall with it" if term.powers else "the best floor is 0, so only E <= can be said"
            found.append(
                Refusal(
                    "absent-term",
                    term.amplitude,
                    why,
                    "a wider range, or less scatter, may show what these points do not",
                )
            )
    return found
