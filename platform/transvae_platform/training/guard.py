"""The guard of a training run: a bad update is skipped, a bad stretch is taken back, and after that the trial fails.

Protocol
1. Every step is judged on the device, without waiting for it. It is bad if the global loss or gradient norm is not a
   finite number, or if the loss is an outlier among those of the last good steps (`recipe.guard`).
2. A bad step moves nothing: no weight, moment or counter of the optimiser, no averaged weight. It counts as a step.
3. The host looks at log steps and before every validation. More than `patience` bad steps in a row, or a last step that
   is bad, are a breach; while bad steps go on nothing is validated or kept.
4. After a breach the run goes back to its target: the last step at which it was due for validation and found good, or
   the beginning. From there on it reads data that it has not seen: each time one whole length of the run further in the
   sequence of samples (`training/course.py`), with its patience as at the beginning. The breach after the last rewind
   ends the trial.
5. The target is a function of steps and what they gave, never of which checkpoints there are. One more, of a notice
   (`training/preemption.py`), is passed over. Where that of the target was not written or is damaged, the run goes to
   the newest good one before it whose steps read the same data, and takes the steps to the target again with the data
   that they had. So it ends like its twin that nothing happened to.
6. What the guard knows, target and course too, is part of every checkpoint, so a run remains a function of its seed. A
   rewind whose process is killed before the next checkpoint is found again by the steps that led to it.

Only the loss can be an outlier: in 14 healthy runs of the quick start gradient norms reached 27 sigma and 44 times
their mean while losses stayed below 4 sigma and 1.6 times, and clipping and Adam bound what a large gradient does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from transvae_platform.errors import UserError
from transvae_platform.study.recipe_spec import Recipe
from transvae_platform.training.course import Course
from transvae_platform.world import World

EXTRA = "_extra_state"
"""Torch's name in a `state_dict` for what `get_extra_state` gives."""


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
    """Judges every step of a run; its buffers, target and course are what a checkpoint holds of it."""

    window: Tensor
    """(limits.window,) float64: losses of the last good steps, oldest first, zeros where there were fewer."""
    bad: Tensor
    """float32, 1 while the newest step is bad, else 0: AdamW reads it as `found_inf`."""
    good: Tensor
    streak: Tensor
    longest: Tensor
    """int64: good steps, bad ones in a row now and at most."""
    last: Tensor
    """(2,) float64: loss and gradient norm of the newest bad step."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        super().__init__()
        self._limits, self._steps = recipe.guard, recipe.steps
        self.target = 0
        """The step that a breach leads back to."""
        self.course = Course()
        self.register_buffer("window", torch.zeros(self._limits.window, dtype=torch.float64, device=device))
        self.register_buffer("bad", torch.zeros((), device=device))
        for name in ("good", "streak", "longest"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64, device=device))
        self.register_buffer("last", torch.zeros(2, dtype=torch.float64, device=device))
        self._nothing = torch.zeros(2, dtype=torch.float64, device=device)

    @property
    def rewinds(self) -> int:
        """How often the run was taken back."""
        return len(self.course.diverted)

    def enter(self, step: int) -> int:
        """Begin the step after `step`: the place of its batch in the sequence of samples."""
        if step in self.course.diverted:
            self.streak.zero_()
            self.longest.zero_()
        return self.course.place(step, self._steps)

    @torch.no_grad()
    def judge(self, loss: Tensor, norm: Tensor, world: World) -> None:
        """Take a step's loss (this worker's mean) and gradient norm (global); `bad` then says what is to be done."""
        # a call of any operation takes 1 to 3 us, 0.01 to 0.03 % of the quickest micro step: their number counts
        values = torch.stack((loss.detach(), norm))
        if world.size > 1:  # also the norm: every process must come to the same answer
            values = world.sum(values) / world.size
        values = values.double()
        good, window = self.good, self.window
        bound = self._bound(window, good).masked_fill_(good < self._limits.after, math.inf)
        broken = values.dot(self._nothing)  # 0, or NaN where a value is not finite
        fine = values[0] + broken <= bound
        torch.where(fine, torch.cat((window[1:], values[:1])), window, out=window)
        torch.where(fine, self.last, values, out=self.last)
        good.add_(fine)
        torch.logical_not(fine, out=self.bad)  # in place: the optimiser holds this tensor
        torch.maximum(self.longest, self.streak.add_(1).masked_fill_(fine, 0), out=self.longest)

    def look(self, step: int, last: bool) -> Finding:
        """What the steps up to this one say (waits for the device).

        Raises:
            BadStretchError: more bad steps in a row than allowed, or any at the `last` step of the run.
        """
        good, streak, longest = torch.stack((self.good, self.streak, self.longest)).tolist()
        if longest > self._limits.patience or (last and streak):
            loss, norm = self.last.tolist()
            before = self.window.sum().item() / max(1, min(good, self._limits.window))
            raise BadStretchError(
                f"{longest} bad step{'s' * (longest > 1)} in a row by step {step}: the training loss is {_words(loss)} "
                f"(a mean of {before:.3g} before), the gradient norm {_words(norm)}"
            )
        return Finding(skipped=step - good, calm=not streak)

    def begin_again(self) -> None:
        """As before the first step of a run that was never rewound."""
        self.target, self.course = 0, Course()
        for buffer in self.buffers():
            buffer.zero_()

    def get_extra_state(self) -> dict[str, Any]:
        """Part of `state_dict`: target and course."""
        return {"target": self.target, **asdict(self.course)}

    def set_extra_state(self, state: Any) -> None:
        """Part of `load_state_dict`. Raises UserError if it is an earlier version's."""
        self.course = course_of({EXTRA: state})
        self.target = state["target"]

    def _bound(self, window: Tensor, good: Tensor) -> Tensor:
        """The loss above which a step is an outlier."""
        known = good.clamp(1, self._limits.window)
        mean = window.sum() / known
        deviation = torch.addcmul(window.dot(window) / known, mean, mean, value=-1).clamp_(min=0).sqrt_()
        return torch.maximum(torch.add(mean, deviation, alpha=self._limits.sigma), mean * self._limits.factor)


def course_of(state: Mapping[str, Any]) -> Course:
    """The course in what a checkpoint's `state.json` holds of a guard.

    Raises:
        UserError: it is an earlier version's.
    """
    known = state[EXTRA]
    if not isinstance(known, dict):
        raise UserError(
            "the checkpoint is of an earlier version of this project, which did not record where a rewind leads to - "
            "continue with that version, or delete the trial's checkpoints to train it from the start"
        )
    return Course(tuple(known["diverted"]))


def _words(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else f"not finite ({value})"
