"""What the fits decline to say. Each rule returns a Refusal (why, and what data would lift it) or None.

A refusal is an answer for the page, never an exception: a study in which one family failed still gets its report.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from transvae_platform.fitting.intervals import Interval
from transvae_platform.fitting.solve import ALPHA_MAX, Solution

# Three parameters are free: with 3 sizes the curve passes through every point and nothing is left to check it.
MIN_SIZES_FOR_LAW = 4
# With 4 sizes one degree of freedom is left and the own interval is of no use (F(.9; 1, 1) = 40).
MIN_SIZES_FOR_OWN_INTERVAL = 5
# The largest size is left out, and the rest must still carry a law.
MIN_SIZES_FOR_HOLD_OUT = MIN_SIZES_FOR_LAW + 1
# Predictions beyond 4 times the largest size are refused (assumption: simulated intervals were checked up to 4x).
MAX_EXTRAPOLATION = 4.0
# Up to 10 times, if asked for, with a warning and the back-test's error; never further.
MAX_WITH_WARNING = 10.0
# A rise by less from the smallest to the largest size may be noise about a flat law (assumption).
GROWTH = 0.01
# Names of metrics that rise with quality; the law describes losses that fall.
HIGHER_IS_BETTER = frozenset({"psnr", "ssim", "accuracy"})


@dataclass(frozen=True)
class Refusal:
    """code: stable key; subject: family, pair or metric; why: the reason; lifted_by: the data that would change it."""

    code: str
    subject: str
    why: str
    lifted_by: str

    @property
    def sentence(self) -> str:
        return f"{self.subject}: {self.why}; {self.lifted_by}."


def rising_metric(metric: str) -> Refusal | None:
    """'psnr', 'val/ssim', ... ; 'ssim_loss' and '1 - ssim' fall. What has another name, its values tell."""
    words = set(re.split(r"[^a-z0-9]+", metric.lower()))
    rising = words & HIGHER_IS_BETTER
    if not rising or "loss" in words or re.match(r"\s*[-\d]", metric):
        return None
    return Refusal(
        "rising-metric", metric, f"{sorted(rising)[0]} rises with quality, and the law describes a loss that falls",
        "fit the loss behind it (for PSNR the mean squared error)",
    )  # fmt: skip


def growing_metric(metric: str, first: float, last: float) -> Refusal:
    return Refusal(
        "rising-metric", metric,
        f"it grows with size in every family (from {first:.4g} to {last:.4g} in the first), and the law describes a "
        "loss that falls", "fit the loss behind it (for an accuracy the error: 1 - accuracy)",
    )  # fmt: skip


def rising_family(family: str, first: float, last: float) -> Refusal | None:
    """One family whose loss grows, where those of others fall."""
    if last <= first * (1 + GROWTH):
        return None
    return Refusal(
        "rising-family", family,
        f"it grows from its smallest size to its largest ({first:.4g} to {last:.4g}), and the law describes a loss "
        "that falls", "larger sizes that are better would show one that does",
    )  # fmt: skip


def too_few_sizes(family: str, sizes: int) -> Refusal | None:
    if sizes >= MIN_SIZES_FOR_LAW:
        return None
    return Refusal(
        "too-few-sizes", family,
        f"{sizes} usable size{'' if sizes == 1 else 's'}, and a law with three free parameters passes through "
        "any three points, so neither alpha nor E is given",
        f"at least {MIN_SIZES_FOR_LAW} sizes give an estimate, {MIN_SIZES_FOR_OWN_INTERVAL} an interval",
    )  # fmt: skip


def no_interval(family: str, sizes: int, known: bool) -> Refusal | None:
    """known: whether a variance that intervals may use is there."""
    if known:
        return None
    return Refusal(
        "no-interval", family,
        f"{sizes} sizes leave one degree of freedom and no variance is shared with other families, so no interval",
        "a fifth size, or further families of similar scatter to pool the variance with, would give one",
    )  # fmt: skip


def not_converged(family: str, solution: Solution) -> Refusal | None:
    if solution.converged:
        return None
    return Refusal(
        "not-converged", family,
        f"the optimum is not proven (gradient {solution.gradient:.1e}, {solution.starts_agreeing} of "
        f"{solution.starts} starts agree)",
        "sizes that are not nearly equal in x, or losses stored with more digits, would make it sharp",
    )  # fmt: skip


def flat_curve(family: str, solution: Solution) -> Refusal | None:
    if not solution.flat:
        return None
    return Refusal(
        "flat", family, "the best law is a constant: the loss does not fall with size, so there is no exponent",
        "sizes further apart, longer training or more seeds may show a fall that these data do not",
    )  # fmt: skip


def alpha_unbounded(family: str, interval: Interval) -> Refusal | None:
    if interval.bounded:
        return None
    if not interval.bounded_below and not interval.bounded_above:
        why = "the interval for alpha is unbounded below and above: every exponent fits within the scatter of the sizes"
    elif interval.bounded_below:
        why = (
            f"the interval for alpha is unbounded above (lower end {interval.lower:.2g}; tried up to {ALPHA_MAX:g}): "
            "the curve may already be flat after its smallest sizes"
        )
    else:
        why = f"the interval for alpha is unbounded below (upper end {interval.upper:.2g}): the data allow no trend"
    return Refusal("alpha-unbounded", family, why, "a wider range of sizes, or less scatter, would bound it")


def alpha_at_limit(family: str, solution: Solution) -> Refusal | None:
    """For fits without an interval; with one, alpha_unbounded() says the same."""
    if solution.at_limit is None:
        return None
    return Refusal(
        "alpha-at-limit", family,
        f"the best alpha sits at the {solution.at_limit} end of the tried range, so the sizes do not determine it",
        "a wider range of sizes, or less scatter, would",
    )  # fmt: skip


def floor_unbounded(family: str, interval: Interval) -> Refusal | None:
    if interval.bounded_below:
        return None
    return floor_at_zero(family, "E", interval.upper)


def extrapolation(
    family: str, x: float, largest: float, x_name: str, limit: float = MAX_EXTRAPOLATION, smallest: float = 0.0
) -> Refusal | None:
    """Beyond `limit` times the largest fitted size, or as far below the smallest."""
    if smallest <= limit * x and x <= limit * largest:
        return None
    if x <= largest:
        return Refusal(
            "extrapolation", family,
            f"{x_name} = {x:.3g} lies {smallest / x:.3g} times below the smallest fitted size, and predictions end at "
            f"{limit:g} times",
            f"a trained size of at most {x * limit:.3g} would allow it",
        )  # fmt: skip
    return Refusal(
        "extrapolation", family,
        f"{x_name} = {x:.3g} is {x / largest:.1f} times the largest fitted size, and predictions end at "
        f"{limit:g} times",
        f"a trained size of at least {x / limit:.3g} would allow it",
    )  # fmt: skip


def floor_at_zero(family: str, name: str, upper: float) -> Refusal:
    return Refusal(
        "floor-reaches-zero", family, f"the interval for {name} reaches 0, so only {name} <= {upper:.3g} can be said",
        "larger sizes, at which the loss comes closer to its floor, would bound E from below",
    )  # fmt: skip


def no_hold_out(family: str, sizes: int) -> Refusal | None:
    if sizes >= MIN_SIZES_FOR_HOLD_OUT:
        return None
    return Refusal(
        "no-hold-out", family, f"{sizes} sizes leave fewer than {MIN_SIZES_FOR_LAW} to predict the largest from",
        f"{MIN_SIZES_FOR_HOLD_OUT} sizes would allow the test",
    )  # fmt: skip


def one_seed(family: str, seed_sd: float | None) -> Refusal | None:
    if seed_sd is not None:
        return None
    return Refusal(
        "one-seed", family,
        "every size has one seed, so the noise of a training run is unknown and the scatter about the law is all there "
        "is to judge by", "three seeds of the smallest size would measure it at the least cost",
    )  # fmt: skip


def mixed_rows(family: str, what: str) -> Refusal:
    return Refusal("mixed-rows", family, what, "one row per size and seed, with one x per size, is needed")
