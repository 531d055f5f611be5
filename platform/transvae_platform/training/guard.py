"""The guard of a training run: a bad update is skipped, a bad stretch is taken back, and after that the trial fails.

Protocol
1. Every step is judged on the device, without waiting for it. It is bad if the global loss or gradient norm is not a
   finite number, or if the loss is an outlier among those of the last good steps (`recipe.guard`).
2. A bad step moves nothing: no weight, moment or counter of the optimiser, no averaged weight. It counts as a step.
3. The host looks at log steps and before every validation. More than `patience` bad steps in a row, or a last step that
   is bad, are a breach; while bad steps go on nothing is validated or kept.
4. After a breach the run goes back to its newest good checkpoint and reads data that it has not seen: each time one
   whole length of the run further in the sequence of samples. The breach after the last rewind ends the trial.
5. What the guard knows is part of every checkpoint, so a run remains a function of its seed. A rewind whose process is
   killed before the next checkpoint is found again by the steps that led to it.

Only the loss can be an outlier: in healthy runs of the micro ladder gradient norms reach 9 sigma and 6 times their mean
while losses stay below 4 sigma and 1.6 times (measured), and clipping and Adam bound what a large gradient does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from transvae_platform.study.spec import GuardLimits, Recipe
from transvae_platform.world import World


class BadStretchError(Exception):
    """Training cannot go on from these weights; the loop takes it back."""


@dataclass(frozen=True)
class Finding:
    """What the host learned of the steps so far."""

    skipped: int
    """Updates skipped since the run began."""
    calm: bool
    """Whether the newest step was good."""


class Guard(nn.Module):
    """Judges every step of a run; its buffers and the number of rewinds are what a checkpoint holds of it."""

    window: Tensor
    """(limits.window,) float64: losses of the last good steps, oldest first, zeros where there were fewer."""
    bad: Tensor
    """float32, 1 while the newest step is bad, else 0: AdamW reads it as `found_inf`."""
    good: Tensor
    streak: Tensor
    longest: Tensor
    skipped: Tensor
    """int64: good steps, bad ones in a row now and at most, bad ones at all."""
    last: Tensor
    """(3,) float64: loss, gradient norm and the window's mean at the newest bad step."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        super().__init__()
        self._limits, self._steps = recipe.guard, recipe.steps
        self.rewinds = 0
        self.register_buffer("window", torch.zeros(self._limits.window, dtype=torch.float64, device=device))
        self.register_buffer("bad", torch.zeros((), device=device))
        for name in ("good", "streak", "longest", "skipped"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64, device=device))
        self.register_buffer("last", torch.zeros(3, dtype=torch.float64, device=device))

    @property
    def offset(self) -> int:
        """Steps between a step and the place of its batch in the sequence of samples."""
        return self.rewinds * self._steps

    @torch.no_grad()
    def judge(self, loss: Tensor, norm: Tensor, world: World) -> None:
        """Take a step's loss (this worker's mean) and gradient norm (global); `bad` then says what is to be done."""
        # the sum over workers, also of the norm: every process must come to the same answer
        values = world.sum(torch.stack((loss.detach(), norm))).double() / world.size
        mean, bound = self._expected(self._limits)
        bad = ((values[0] > bound) & (self.good >= self._limits.after)) | ~values.isfinite().all()
        self.window = torch.where(bad, self.window, torch.cat((self.window[1:], values[:1])))
        self.last = torch.where(bad, torch.cat((values, mean[None])), self.last)
        self.good += ~bad
        self.skipped += bad
        self.streak = (self.streak + 1) * bad
        self.longest = torch.maximum(self.longest, self.streak)
        self.bad.copy_(bad)  # in place: the optimiser holds this tensor

    def look(self, step: int, last: bool) -> Finding:
        """What the steps up to this one say (waits for the device).

        Raises:
            BadStretchError: more bad steps in a row than allowed, or any at the `last` step of the run.
        """
        skipped, streak, longest = torch.stack((self.skipped, self.streak, self.longest)).tolist()
        if longest > self._limits.patience or (last and streak):
            loss, norm, mean = self.last.tolist()
            raise BadStretchError(
                f"{longest} bad step{'s' * (longest > 1)} in a row by step {step}: the training loss is {_words(loss)} "
                f"(a mean of {mean:.3g} before), the gradient norm {_words(norm)}"
            )
        return Finding(skipped, calm=not streak)

    def begin_again(self) -> None:
        """As before the first step of a run that was never rewound."""
        self.rewinds = 0
        for buffer in self.buffers():
            buffer.zero_()

    def rewound(self, rewinds: int) -> None:
        """Go on after rewind number `rewinds` from a checkpoint's state, with patience as at the beginning."""
        self.rewinds = rewinds
        self.streak.zero_()
        self.longest.zero_()

    def get_extra_state(self) -> int:
        """Part of `state_dict`: the number of rewinds."""
        return self.rewinds

    def set_extra_state(self, state: int) -> None:
        """Part of `load_state_dict`."""
        self.rewinds = state

    def _expected(self, limits: GuardLimits) -> tuple[Tensor, Tensor]:
        """The window's mean and the loss above which a step is an outlier."""
        known = self.good.clamp(1, limits.window)
        mean = self.window.sum() / known
        variance = self.window.square().sum() / known - mean.square()
        return mean, torch.maximum(mean + limits.sigma * variance.clamp(min=0).sqrt(), limits.factor * mean)


def _words(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else f"not finite ({value})"
