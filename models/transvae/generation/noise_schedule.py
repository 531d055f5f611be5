"""How much noise a diffusion adds at each of its steps; imports torch only to compute with it.

The guide's "scaled linear" schedule from 1e-4 to 0.02 mixes two: those bounds are DDPM's, of betas that rise linearly
(`linear`, the default); betas whose roots rise linearly (`scaled_linear`) are latent diffusion's, 0.00085 to 0.012.

Legend: B batch, T steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SCHEDULES = ("linear", "scaled_linear")
DRAWS = ("all", "all_but_last")


@dataclass(frozen=True)
class NoiseSchedule:
    """How much noise there is at each step. Raises ValueError for impossible values."""

    steps: int = 1000  # DDPM; guide
    first: float = 1e-4  # beta of the first step: DDPM; guide
    last: float = 0.02  # of the last
    kind: str = "linear"
    draw: str = "all"
    """Which steps are trained: all T of them (the guide's formula), or "all_but_last" (its code: randint(1, T))."""

    def __post_init__(self) -> None:
        for key, allowed in (("kind", SCHEDULES), ("draw", DRAWS)):
            if getattr(self, key) not in allowed:
                raise ValueError(f"{key}={getattr(self, key)!r} does not exist; choose one of {', '.join(allowed)}")
        if self.steps < 2 or not 0 < self.first <= self.last < 1:
            raise ValueError(
                f"a schedule needs at least 2 steps and 0 < first <= last < 1, not {self.steps} steps "
                f"from {self.first} to {self.last}"
            )

    def kept(self) -> Tensor:
        """a of every step, (T,) float64, falling."""
        import torch

        ends = (self.first, self.last) if self.kind == "linear" else (math.sqrt(self.first), math.sqrt(self.last))
        rising_T = torch.linspace(*ends, self.steps, dtype=torch.float64)
        beta_T = rising_T if self.kind == "linear" else rising_T.square()
        return torch.cumprod(1 - beta_T, dim=0)

    def drawn(self, uniform_B: Tensor) -> Tensor:
        """Steps, int64, from numbers in [0, 1): each of those trained equally often."""
        count = self.steps if self.draw == "all" else self.steps - 1
        return (uniform_B.double() * count).long().clamp(max=count - 1)
