"""The answer for learning curves: every run extrapolated on its own, with its back-tests."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from transvae_platform.fitting.answers.prepare import Prepared
from transvae_platform.fitting.curve import extrapolate
from transvae_platform.fitting.refusals import Refusal
from transvae_platform.fitting.runs.checks import numbers_of
from transvae_platform.fitting.runs.read import TableError

DEFAULT_FACTOR = 2.0  # how far a forecast goes where no images are named


def answer_curves(prepared: Prepared) -> dict[str, Any]:
    """One forecast, or its refusal, per run."""
    if prepared.names is None:
        raise TableError(
            f"{prepared.runs.source}: no column says which run a point belongs to - name it `run`, or give family, "
            "size and seed"
        )
    columns, images = prepared.runs.columns, prepared.columns["images"]
    rate = numbers_of(prepared.runs, "learning_rate") if "learning_rate" in columns else None
    phases = columns.get("phase")
    names, forecasts, refusals = np.array(prepared.names), [], []
    for run in dict.fromkeys(prepared.names):
        own = names == run
        for to in prepared.request.at or (DEFAULT_FACTOR * float(images[own].max()),):
            answer = extrapolate(
                run, images[own], prepared.loss[own], to,
                learning_rate=None if rate is None else rate[own],
                phase=None if phases is None else [str(p) for p in phases[own]],
            )  # fmt: skip
            if isinstance(answer, Refusal):
                refusals.append(answer.sentence)
            else:
                forecasts.append(asdict(answer))
    label = "steps exponent at constant learning rate, not a law of data: images repeat"
    return {"expression": "L = E + A images^-alpha, each run for itself", "label": label, "forecasts": forecasts,
            "refusals": refusals}  # fmt: skip
