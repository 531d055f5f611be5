"""What a trial does when its nodes are about to be taken away: one checkpoint, then nothing that would be lost."""

from __future__ import annotations

import time
from collections.abc import Callable

from transvae_platform.world import Notice, World

# Asking is a collective of all ranks, 1.3 to 4 ms (measured, Ray 2.60, `benchmarks/recovery.py`), at steps that are a
# function of the step number alone, so that all ranks ask together. Every 16 steps it costs 0.1 to 0.25 ms per step: at
# most 1 % of the quickest micro step (25 ms, measured), and a notice waits 0.4 s there, 16 s at 1 s per step.
STRIDE = 16
FALLBACK_SECONDS = 120.0  # how long Ray Train waits for a deadline that it was not told (DEFAULT_PREEMPTION_DEADLINE_S)
TEARDOWN_SECONDS = 10.0  # from the deadline to the end of the processes: some polls of 0.5 s (assumption)


class Notices:
    """Tells the training loop of each notice once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._heeded: Notice | None = None

    def at(self, step: int) -> Notice | None:
        """The notice that all processes see at this step, if it is a new one; every process must call it."""
        if step % STRIDE:
            return None
        notice = self._world.notice()
        if notice is None or notice == self._heeded:
            return None
        self._heeded = notice
        return notice


def hold(notice: Notice, clock: Callable[[], float] = time.time, sleep: Callable[[float], None] = time.sleep) -> None:
    """Do nothing until this process is ended: later steps would be lost.

    Returns only if the deadline has passed and the process still lives: the nodes were not taken away after all.
    """
    deadline = notice.deadline if notice.deadline is not None else clock() + FALLBACK_SECONDS
    while (left := deadline + TEARDOWN_SECONDS - clock()) > 0:
        sleep(min(left, 1.0))
