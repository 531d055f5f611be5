"""A prediction is compared with what naive rivals would have said of the same points."""

from __future__ import annotations

from typing import Any

import numpy as np

from transvae_platform.fitting.laws.forms import Columns, FloatArray


def naive(known: Columns, loss: FloatArray, asked: Columns) -> dict[str, FloatArray]:
    """A pure power law (ln L linear in the logarithms of all variables, no floor), and the nearest known point."""
    design = _logs(known)
    coefficients = np.linalg.lstsq(design, np.log(loss), rcond=None)[0]
    distance = ((_logs(asked)[:, None, :] - design[None]) ** 2).sum(2)
    return {"power_law": np.exp(_logs(asked) @ coefficients), "nearest_point": loss[np.argmin(distance, axis=1)]}


def compared(law: FloatArray, measured: FloatArray, rivals: dict[str, FloatArray]) -> dict[str, Any]:
    """Mean and largest relative errors of the law, mean ones of the rivals, and whether the law is better than both."""
    errors = {name: float(np.abs(values / measured - 1).mean()) for name, values in {"law": law, **rivals}.items()}
    return {
        "mean_error": errors.pop("law"), "largest_error": float(np.abs(law / measured - 1).max()),
        "bias": float((law / measured - 1).mean()), "baselines": errors,
        "beats_baselines": float(np.abs(law / measured - 1).mean()) < min(errors.values()),
    }  # fmt: skip


def _logs(columns: Columns) -> FloatArray:
    return np.column_stack([np.ones(len(next(iter(columns.values())))), *(np.log(v) for v in columns.values())])
