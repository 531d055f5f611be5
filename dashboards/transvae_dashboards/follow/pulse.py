"""Whether somebody runs a study, for a page that looks again and again: the holder's counter must have moved."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from transvae_platform.study.lease import BEAT_SECONDS, Holder, read_holder

PATIENCE = 5 * BEAT_SECONDS
"""That a counter may stand still: shared file systems pause for seconds (assumption)."""


class Pulse:
    """The life of a study's holder, by the clock of this process only (`study/lease.py`)."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._seen: Holder | None = None
        self._since = 0.0

    def runs(self) -> Holder | None:
        """Who runs the study now; None if nobody does, as far as can be told yet."""
        holder = read_holder(self._folder)
        if holder != self._seen:
            self._seen, self._since = holder, self._clock()
        if holder is None or holder.dead or self._clock() - self._since > PATIENCE:
            return None
        return holder
