"""Which data a run reads: a function of its steps and of where it was taken back (`training/guard.py`, 4)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Course:
    """The way of a run through the sequence of samples."""

    diverted: tuple[int, ...] = ()
    """The steps from which on it reads data that it has not seen, one for each rewind, ascending."""

    def place(self, step: int, steps: int) -> int:
        """Where in the sequence the batch that follows `step` lies, counted in batches, for a run of so many steps."""
        return step + steps * sum(at <= step for at in self.diverted)

    def divert(self, step: int) -> Course:
        """The course of the same run after one more rewind."""
        return Course(tuple(sorted((*self.diverted, step))))

    def past(self, step: int) -> tuple[int, ...]:
        """What of it a state at `step` depends on: two states with the same past came from the same batches."""
        return tuple(at for at in self.diverted if at < step)
