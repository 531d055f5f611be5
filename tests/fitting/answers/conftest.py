"""A table of runs as a study writes it: curves of two families of five sizes and three seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.fitting.conftest import LADDER, true_loss


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    rng, found = np.random.default_rng(60), []
    for family, alpha in (("cnn", 0.2), ("transvae", 0.3)):
        for size, x in LADDER.items():
            for seed in range(3):
                final = float(true_loss(x, alpha)) * (1 + 0.003 * rng.standard_normal())
                for step in (100, 1000, 2000):
                    found.append({
                        "family": family, "size": size, "seed": seed, "step": step, "status": "finished",
                        "phase": "warmup" if step == 100 else "stage 1", "parameters": x, "images": 8 * step,
                        "training_flops": 60 * x * step, "resolution": 256, "code": "a1",
                        "learning_rate": 1e-4, "val/l1": final * (1 + 20 / step), "val/mse": final**2 * (1 + 20 / step),
                    })  # fmt: skip
    return found
