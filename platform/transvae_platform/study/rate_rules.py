"""Learning rate and warm-up as rules: what a study file may say instead of a number, and the numbers that follow.

The section that makes a study a calibration stands here, too: the trials that come of it are read in `calibration.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from transvae_platform.errors import SpecError
from transvae_platform.study.section import MOST, Name, Section

HIGHEST_RATE = 1
"""Rates above this are typing errors (assumption)."""
Rate = Annotated[float, Field(gt=0, le=HIGHEST_RATE)]
Steps = Annotated[int, Field(ge=0, le=MOST)]


class RateByBatch(Section):
    """A rate that was found at one batch size, for another one."""

    rate: Rate
    """Peak learning rate at the batch size `at_batch`."""
    at_batch: Annotated[int, Field(ge=1, le=MOST)]
    """Global batch size in images."""
    scaling: Literal["sqrt", "linear"] = "sqrt"
    """With the square root of the batch (Malladi et al. 2022, for Adam) or in proportion (Goyal et al. 2017, SGD)."""


class Calibrated(Section):
    """The rate that a calibration study found best for the model's family and size, or for its next smaller size."""

    calibrated: Name
    """A study in the same home with a `calibration` section."""


class ImagesSeen(Section):
    """A length given in images, so that it means the same at every batch size."""

    images: Annotated[int, Field(ge=0, le=MOST)]
    """Training images; a started step counts."""


class Calibration(Section):
    """Every model of the grid at several learning rates, to find the one to train it at (`study/calibration.py`)."""

    learning_rates: Annotated[tuple[Rate, ...], Field(min_length=2)]
    """The rates, ascending; each makes a trial of every model and seed."""
    stop_at: tuple[Annotated[int, Field(ge=1, le=MOST)], ...] = ()
    """Steps at which the worse rates of a family, size and seed end; validations are due there."""
    keep: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of a size's rates that goes on after each of them, rounded up (successive halving, Jamieson and Talwalkar
    2016: half)."""

    @model_validator(mode="after")
    def _both_ascend(self) -> Calibration:
        for name in ("learning_rates", "stop_at"):
            values = list(getattr(self, name))
            if values != sorted(set(values)):
                raise ValueError(f"{name} ascend, each value once: {values}")
        return self


RateRule = Annotated[
    Annotated[Rate, Tag("<rate>")]
    | Annotated[RateByBatch, Tag("<by batch>")]
    | Annotated[Calibrated, Tag("<calibrated>")],
    Discriminator(lambda value: _kind(value)),
]
WarmupRule = Annotated[
    Annotated[Steps, Tag("<steps>")] | Annotated[ImagesSeen, Tag("<images>")],
    Discriminator(lambda value: "<images>" if isinstance(value, (dict, ImagesSeen)) else "<steps>"),
]


def _kind(value: Any) -> str:
    if isinstance(value, Calibrated) or (isinstance(value, dict) and "calibrated" in value):
        return "<calibrated>"
    return "<by batch>" if isinstance(value, (dict, RateByBatch)) else "<rate>"


def learning_rate(rule: float | RateByBatch | Calibrated, batch: int, cell: str, rates: Mapping[str, float]) -> float:
    """The peak learning rate of a model.

    Args:
        batch: its global batch size in images.
        cell: its `family-size`.
        rates: what the calibration study says, by `family-size`.

    Raises:
        SpecError: the rule leads beyond every rate, or the calibration study has none for it.
    """
    if isinstance(rule, RateByBatch):
        ratio = batch / rule.at_batch
        found = rule.rate * (ratio if rule.scaling == "linear" else math.sqrt(ratio))
        if found > HIGHEST_RATE:
            raise SpecError(
                f"recipe.learning_rate: {rule.rate:g} at a batch of {rule.at_batch}, {rule.scaling}, is {found:g} at "
                f"the batch of {batch} of {cell}, above {HIGHEST_RATE} - correct rate or at_batch"
            )
        return found
    if isinstance(rule, Calibrated):
        if cell not in rates:
            raise SpecError(
                f"recipe.learning_rate: the study {rule.calibrated!r} found no rate for {cell} - it has: "
                f"{', '.join(sorted(rates)) or 'none'}; calibrate the family, or give {cell} a rate in recipe.overrides"
            )
        return rates[cell]
    return rule


def warmup_steps(rule: int | ImagesSeen, batch: int) -> int:
    """Steps of warm-up at a global batch size; a started step counts."""
    return -(-rule.images // batch) if isinstance(rule, ImagesSeen) else rule
