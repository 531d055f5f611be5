"""Which trial starts next: the policy that a study's Tune run, its plan and the simulator share. Pure functions.

What is scheduled is a trial, or an errand between trials that needs slots, too: the latents that generators wait for.

Rules
1. A trial holds one slot per worker from its start to its end, preemptions included; it starts only if all are free.
2. Trials come in the order of their priority, then in a given order (`ordering.py` looks for a good one), and without
   one by what depends on them: the time of the trial and of the longest chain of trials that wait for it. So the
   longest work begins first and the short work fills the end.
3. A trial that does not fit yet gets a reservation: the moment at which the running ones, by their estimates, will have
   left enough slots. Later trials fill the gap before it if they end in time or need none of the reserved slots (EASY
   back-filling, Lifka 1995). So a large trial waits for no stream of small ones. An estimate that was wrong delays the
   reservation, it blocks nothing.
4. A trial that waits for others starts when they have ended well; where one of them failed it never starts.
5. With a budget, a trial starts only if its own estimate fits into what the running ones leave of it.
None of this looks at a loss: who starts when never depends on who is good.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Work:
    """A trial as the policy sees it."""

    id: str
    slots: int
    seconds: float
    """Estimate of what is left of it, with all its slots."""
    kind: str = "gpu"
    """Of its slots."""
    priority: int = 0
    after: tuple[str, ...] = ()
    """Ids of those that must have ended well."""

    @property
    def slot_seconds(self) -> float:
        return self.slots * self.seconds


@dataclass(frozen=True)
class Running:
    """A trial that holds its slots."""

    work: Work
    end: float
    """When it is expected to end; the past if it is late."""


@dataclass(frozen=True)
class Agenda:
    """What a study has left to do."""

    works: tuple[Work, ...]
    capacity: Mapping[str, int]
    """Slots by kind."""
    order: tuple[str, ...] = ()
    """Ids in the order in which the policy looks at them; see `Policy`."""
    budget: float | None = None
    """Slot-seconds that may still be spent."""

    def only(self, names: Container[str]) -> Agenda:
        """Some of the works; what they wait for beside these has ended."""
        return replace(self, works=tuple(among([work for work in self.works if work.id in names])))


class Policy:
    """The order of a study's trials, and who may start.

    Raises ValueError as `chains` does.
    """

    def __init__(self, agenda: Agenda) -> None:
        self._works = {work.id: work for work in agenda.works}
        self._capacity, self._budget = agenda.capacity, agenda.budget
        self._given = {name: place for place, name in enumerate(agenda.order)}
        self._order = self._in_order()

    def _in_order(self) -> list[Work]:
        """Rule 2."""
        tails, last = chains(self._works.values()), len(self._given)

        def place(work: Work) -> tuple[float | str, ...]:
            return (-work.priority, self._given.get(work.id, last), -tails[work.id], -work.slots, work.id)

        return sorted(self._works.values(), key=place)

    def hopeless(self, waiting: Iterable[str], failed: Iterable[str]) -> set[str]:
        """Those that wait, directly or not, for one that failed (rule 4)."""
        lost, found, left = set(failed), set[str](), set(waiting)
        while more := {name for name in left if lost.intersection(self._works[name].after)}:
            found |= more
            lost |= more
            left -= more
        return found

    def choose(
        self,
        waiting: Container[str],
        running: Sequence[Running],
        ended: Container[str],
        now: float,
        spent: float = 0.0,
    ) -> list[Work]:
        """Those that start now, of each kind of slots in the order of the queue.

        Args:
            ended: ids of those that ended well.
            spent: slot-seconds since the agenda was made, those of running trials included.
        """
        ready = [work for work in self._order if work.id in waiting and all(name in ended for name in work.after)]
        left = None
        if self._budget is not None:
            left = self._budget - spent - sum(one.work.slots * max(0.0, one.end - now) for one in running)
        starting: list[Work] = []
        for kind in sorted({work.kind for work in ready}):
            queue = [work for work in ready if work.kind == kind]
            held = [one for one in running if one.work.kind == kind]
            for work in _backfilled(queue, held, self._capacity.get(kind, 0), now):
                if left is not None:
                    if work.slot_seconds > left:
                        continue
                    left -= work.slot_seconds
                starting.append(work)
        return starting


def among(works: Sequence[Work]) -> list[Work]:
    """The works, as if everything but these had ended."""
    names = {work.id for work in works}
    return [replace(work, after=tuple(name for name in work.after if name in names)) for work in works]


def chains(works: Iterable[Work]) -> dict[str, float]:
    """By id: the seconds of a trial and of the longest chain of trials that wait for it.

    Raises ValueError for trials that wait for each other in a circle, or for one that does not exist.
    """
    known = {work.id: work for work in works}
    dependents: dict[str, list[str]] = {name: [] for name in known}
    for work in known.values():
        for name in work.after:
            if name not in known:
                raise ValueError(f"{work.id} waits for {name}, which does not exist")
            dependents[name].append(work.id)
    left = {name: len(names) for name, names in dependents.items()}
    ready, found = [name for name, count in left.items() if count == 0], dict[str, float]()
    while ready:
        name = ready.pop()
        found[name] = known[name].seconds + max((found[each] for each in dependents[name]), default=0.0)
        for before in known[name].after:
            left[before] -= 1
            if left[before] == 0:
                ready.append(before)
    if len(found) < len(known):
        raise ValueError(f"these trials wait for each other: {', '.join(sorted(known.keys() - found.keys()))}")
    return found


def _backfilled(queue: Sequence[Work], running: Sequence[Running], capacity: int, now: float) -> list[Work]:
    """Rules 1 and 3 for one kind of slots."""
    free = capacity - sum(one.work.slots for one in running)
    ends = [(max(one.end, now), one.work.slots) for one in running]
    starting: list[Work] = []
    reserved_at, spare = float("inf"), 0
    for work in queue:
        if work.slots > capacity:
            continue  # refused when it was submitted; a cluster may have shrunk since
        if reserved_at == float("inf"):
            if work.slots <= free:
                free -= work.slots
                ends.append((now + work.seconds, work.slots))
                starting.append(work)
            else:
                reserved_at, spare = _reservation(work.slots, free, ends)
            continue
        if free == 0:
            break
        in_time = now + work.seconds <= reserved_at
        if work.slots <= free and (in_time or work.slots <= spare):
            free -= work.slots
            spare -= 0 if in_time else work.slots
            starting.append(work)
    return starting


def _reservation(slots: int, free: int, ends: list[tuple[float, int]]) -> tuple[float, int]:
    """(when so many slots will be free, how many more will be free then)."""
    for when, released in sorted(ends):
        free += released
        if free >= slots:
            return when, free - slots
    return float("inf"), 0
