"""What a trial does when its nodes are about to be taken away: one checkpoint, then nothing that would be lost.

Protocol
1. All ranks ask Ray at the same steps whether one of their nodes is about to go (`Notices`), and see the same answer.
2. A notice is heeded once: all ranks save one checkpoint at this step and wait until it is complete; nothing is saved
   in a bad stretch (`training/guard.py`, 3). The journal then says `preempted`.
3. They hold still until Ray ends them, for as long as the deadline is believed (`hold`). The next attempt goes on from
   that checkpoint on other nodes, and none of this is charged as a failure (`cluster/worker.py`).
4. If they are not ended by then, the nodes stay, and the trial goes on from where it is.
5. At the same steps they agree whether one of them sees a wish that the study stops (`study/stopping.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from transvae_platform.world import Notice, World

# Asking is a collective of all ranks, 1.3 to 4 ms (measured, Ray 2.60, `benchmarks/recovery.py`), so all ranks must ask
# at the same steps: after each asking they agree on the next one by the mean of their times per step.
POLL_SECONDS = 2.0
"""Between two askings (as often as Ray Train itself looks: `cluster/schedule.py`), as far as steps are shorter."""
STRIDE = 16
"""The most steps between two: at most 1 % of the quickest micro step (25 ms, measured)."""
FALLBACK_SECONDS = 120.0
"""How long Ray Train waits for a deadline that it was not told (DEFAULT_PREEMPTION_DEADLINE_S)."""
LONGEST_SECONDS = 600.0
"""That a deadline is believed: a later one is a wrong clock's (assumption; clouds give 30 s or 2 minutes)."""
TEARDOWN_SECONDS = 10.0
"""From the deadline to the end of the processes: some polls of 0.5 s (assumption)."""


class Notices:
    """Tells the training loop of each notice once."""

    def __init__(self, world: World, clock: Callable[[], float] = time.monotonic) -> None:
        self._world, self._clock = world, clock
        self._heeded: Notice | None = None
        self._asked: tuple[int, float] | None = None
        self._due = 0
        self.stopping = False
        """Whether all processes know, since the last asking, of a wish that the study stops."""

    def at(self, step: int) -> Notice | None:
        """The notice that all processes see at this step, if it is a new one; every process must call it."""
        if step < self._due:
            return None
        notice = self._world.notice()
        stride = self._stride(step)
        self._due = step - step % stride + stride
        if notice is None or notice == self._heeded:
            return None
        self._heeded = notice
        return notice

    def _stride(self, step: int) -> int:
        """How many steps take about POLL_SECONDS, the same on all ranks; 1 before any was timed. Hears of wishes."""
        before, self._asked = self._asked, (step, self._clock())
        micros = 0 if before is None else int(1e6 * (self._asked[1] - before[1]) / (step - before[0]))
        # whole numbers: their sum is exactly the same on all ranks
        told = torch.tensor([micros, int(self._world.stop())], device=self._world.device)
        total, wishes = map(int, self._world.sum(told).tolist())
        self.stopping = wishes > 0
        if before is None:
            return 1
        return max(1, min(STRIDE, int(POLL_SECONDS * 1e6 * self._world.size / max(total, 1))))


def hold(
    notice: Notice,
    wall: Callable[[], float] = time.time,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Do nothing until this process is ended: later steps would be lost.

    Returns only if the nodes should be gone and the process still lives: they were not taken away after all. The
    deadline is another machine's time, so it is compared with this one's clock once, and believed only as far as it
    makes sense: a trial on nodes that stay waits two minutes, one whose clock is wrong does not go on too early.
    """
    told = FALLBACK_SECONDS if notice.deadline is None else notice.deadline - wall()
    end = clock() + min(max(told, FALLBACK_SECONDS), LONGEST_SECONDS) + TEARDOWN_SECONDS
    while (left := end - clock()) > 0:
        sleep(min(left, 1.0))
