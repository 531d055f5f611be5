"""The training curves of one trial as columns: every point while it may still be taken back, thinned once it is over.

Legend: a curve is a pair of arrays (steps, values) of one metric, steps ascending; a value that was not finite is left
out, as it stands as null in the journal.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping

import numpy as np

from transvae_dashboards.follow.thinning import Floats, kept

BINS = 600
"""Of a curve that is over: up to 1,202 points, more than a chart has pixels (assumption: panels below 1,200 px)."""
SECONDS, RATE = "seconds", "seconds_per_step"
"""Columns beside the metrics: training seconds of all attempts up to a step, and what a step took."""
Curve = tuple[Floats, Floats]
NOTHING: Curve = (np.empty(0), np.empty(0))


class Columns:
    """Curves by metric, as they grow; `sealed` ones are thinned and take no more points."""

    def __init__(self, sealed: Mapping[str, Curve] | None = None) -> None:
        self.sealed = sealed is not None
        self._thin: Mapping[str, Curve] = sealed or {}
        self._growing: dict[str, tuple[array[float], array[float]]] = {}

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        """One record of the journal; a step that is there already is replaced (journal protocol, 5)."""
        for name, value in values.items():
            if value is None:
                continue
            steps, column = self._growing.setdefault(name, (array("d"), array("d")))
            if steps and steps[-1] >= step:
                place = bisect_right(steps, step - 0.5)
                del steps[place:], column[place:]
            steps.append(step)
            column.append(value)

    def drop_after(self, step: int) -> None:
        """Forget what was done after a checkpoint that training went back to."""
        for steps, column in self._growing.values():
            place = bisect_right(steps, step)
            del steps[place:], column[place:]

    def seal(self) -> None:
        """Thin all curves: the trial is over."""
        if not self.sealed:
            self._thin = dict(self.items())
            self._growing, self.sealed = {}, True

    @property
    def names(self) -> list[str]:
        return list(self._thin if self.sealed else self._growing)

    def curve(self, name: str) -> Curve:
        """One curve, thinned; two empty arrays where there is none."""
        if self.sealed:
            return self._thin.get(name, NOTHING)
        if name not in self._growing:
            return NOTHING
        steps, column = (np.array(values, dtype=np.float64) for values in self._growing[name])
        chosen = kept(steps, column, BINS)
        return steps[chosen], column[chosen]

    def items(self) -> Iterator[tuple[str, Curve]]:
        return ((name, self.curve(name)) for name in self.names)
