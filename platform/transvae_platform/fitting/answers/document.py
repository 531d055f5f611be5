"""What every fit's JSON holds: the request, the data by hash, what was left out, and the versions it was made with."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy

from transvae_platform.fitting.answers.prepare import Prepared

# Raise when a key changes its meaning or disappears.
SCHEMA_VERSION = 1


def document(kind: str, prepared: Prepared, result: Mapping[str, Any]) -> dict[str, Any]:
    """JSON-safe; numbers that are not finite become null."""
    runs = prepared.runs
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": kind,
        "request": plain(prepared.request.read_by(kind)),
        "group": dict(prepared.group),
        "source": {
            "path": runs.source, "file_sha256": runs.sha256, "rows_fitted": len(runs),
            "row_numbers": runs.numbers.tolist(), "fitted_sha256": prepared.data_sha256,
            "runs": sorted(set(prepared.names)) if prepared.names else None,
        },
        "dropped": [{"row": d.number, "reason": d.reason} for d in prepared.dropped],
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__},
        "result": plain(result),
    }  # fmt: skip


def plain(value: Any) -> Any:
    """NumPy's numbers and arrays to Python's, numbers that are not finite to None."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
