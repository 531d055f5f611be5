"""A study on a cluster that does not exist yet: the policy of `scheduling.py` on nodes that fail, event by event.

What is simulated: slots, nodes of equal size (a trial that fits into one is placed on one, larger ones take whole
nodes), preemption of nodes as a Poisson process, a replacement that comes after a while, a trial that keeps its slots,
loses what it had not saved and starts again elsewhere. What is not: two studies at once, networks, and the head. The
longest of a study's trials and the sum of all bound its time from below, whatever the policy.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from transvae_platform.study.scheduling import Agenda, Policy, Running, Work, chains


@dataclass(frozen=True)
class Nodes:
    """What trials run on, and how it fails. Times in seconds."""

    capacity: int
    """Slots of all nodes together."""
    size: int = 8
    """Slots of a node."""
    hourly: float = 0.0
    """Preemptions per node and hour."""
    away: float = 300.0
    """Until a node that was taken away is replaced (assumption)."""
    restart: float = 62.0
    """From the loss of a node to the trial's next step elsewhere (measured: `benchmarks/recovery.py`)."""
    lost: float = 0.0
    """Work that a preempted trial does again: none with a notice, half a checkpoint interval without."""
    seed: int = 0


@dataclass(frozen=True)
class Simulated:
    """What came of a study."""

    seconds: float
    """Until the last trial ended."""
    useful: float
    """Slot-seconds of training that counted."""
    held: float
    """Slot-seconds that trials held, restarts and waiting for nodes included."""
    preemptions: int
    """Of nodes while a trial ran on them."""
    ends: Mapping[str, float]
    spans: Sequence[tuple[float, float, int]]
    """(from, to, slots) of every stretch for which a trial held slots."""

    @property
    def wasted(self) -> float:
        """Slot-seconds that were held for nothing."""
        return self.held - self.useful

    def cost(self, prices: Sequence[tuple[float, float]]) -> float:
        """Of the held slots at prices per slot and hour: (from which second, price), the first from 0."""
        edges = [*(start for start, _ in prices), float("inf")]
        total = 0.0
        for start, end, slots in self.spans:
            for (low, price), high in zip(prices, edges[1:], strict=True):
                total += slots * max(0.0, min(end, high) - max(start, low)) / 3600 * price
        return total


def lower_bound(works: Sequence[Work], capacity: int) -> float:
    """Seconds that no schedule of these works beats.

    The largest of: all slot-seconds over all slots; the longest chain; the sum of those of which no two fit side by
    side. Works that need every slot run alone, so their time comes on top.
    """
    alone = sum(work.seconds for work in works if work.slots == capacity)
    others = [work for work in works if work.slots < capacity]
    together = sum(work.slot_seconds for work in others) / capacity
    wide = sum(work.seconds for work in others if 2 * work.slots > capacity)
    longest = max((work.seconds for work in others), default=0.0)
    return max(alone + max(together, wide, longest), max(chains(works).values(), default=0.0))


def simulate(works: Iterable[Work], nodes: Nodes, order: Sequence[str] = ()) -> Simulated:
    """Run works of one kind to their end, in the order of the policy or a given one.

    Raises ValueError where one needs more slots than there are.
    """
    listed = list(works)
    for work in listed:
        if work.slots > nodes.capacity:
            raise ValueError(f"{work.id} needs {work.slots} slots of {nodes.capacity}")
    return _Simulation(listed, nodes, order).run()


def makespan(works: Iterable[Work], slots: Mapping[str, int], order: Sequence[str] = ()) -> float:
    """Seconds until works of any kinds are done where nothing fails and no trial minds its node.

    One that needs more slots than there are gets all of them: a plan is made for more than what can run.
    """
    listed = list(works)
    found = [0.0]
    for kind in {work.kind for work in listed}:
        capacity = max(1, slots.get(kind, 0))
        fitting = [replace(work, slots=min(work.slots, capacity)) for work in listed if work.kind == kind]
        found.append(simulate(fitting, Nodes(capacity, size=capacity), order).seconds)
    return max(found)


@dataclass
class _Trial:
    work: Work
    left: float
    since: float
    """When it got its slots."""
    expected: float
    nodes: list[int] = field(default_factory=list)
    """Where it runs; empty while it waits for nodes."""
    began: float = 0.0
    """When it began to compute there."""
    turn: int = 0
    """Counts its starts: the end of an earlier one means nothing."""


class _Simulation:
    def __init__(self, works: Sequence[Work], nodes: Nodes, order: Sequence[str]) -> None:
        self._nodes = nodes
        self._policy = Policy(Agenda(tuple(works), {work.kind: nodes.capacity for work in works}, tuple(order)))
        whole, rest = divmod(nodes.capacity, nodes.size)
        self._room = [nodes.size] * whole + ([rest] if rest else [])
        self._free = list(self._room)
        self._here = [True] * len(self._room)
        self._waiting = {work.id: work for work in works}
        self._running: dict[str, _Trial] = {}
        self._ends: dict[str, float] = {}
        self._spans: list[tuple[float, float, int]] = []
        self._events: list[tuple[float, int, str, object]] = []
        self._number = itertools.count()
        self._draw = random.Random(nodes.seed)
        self._useful = sum(work.slot_seconds for work in works)
        self._preemptions = 0

    def run(self) -> Simulated:
        for node in range(len(self._room)):
            self._next_preemption(node, 0.0)
        now = 0.0
        self._start(now)
        while self._running or self._waiting:
            now, _, what, about = heapq.heappop(self._events)
            getattr(self, what)(about, now)
            self._start(now)
        held = sum((end - start) * slots for start, end, slots in self._spans)
        return Simulated(
            max(self._ends.values(), default=0.0), self._useful, held, self._preemptions, self._ends, self._spans
        )

    def _at(self, when: float, what: str, about: object) -> None:
        heapq.heappush(self._events, (when, next(self._number), what, about))

    def _next_preemption(self, node: int, now: float) -> None:
        if self._nodes.hourly > 0:
            self._at(now + self._draw.expovariate(self._nodes.hourly / 3600), "_preempt", node)

    def _start(self, now: float) -> None:
        holding = [Running(trial.work, trial.expected) for trial in self._running.values()]
        for work in self._policy.choose(self._waiting, holding, self._ends, now):
            del self._waiting[work.id]
            self._running[work.id] = _Trial(work, work.seconds, now, now + work.seconds)
        for trial in self._running.values():
            if not trial.nodes and (places := self._places(trial.work.slots)):
                self._compute(trial, places, now)

    def _places(self, slots: int) -> list[int]:
        """The fullest node that has room, or whole empty ones; none where there is no room."""
        if slots <= self._nodes.size:
            fitting = [node for node, free in enumerate(self._free) if self._here[node] and free >= slots]
            return [min(fitting, key=lambda node: (self._free[node], node))] if fitting else []
        found: list[int] = []
        for node, free in enumerate(self._free):
            if self._here[node] and free == self._room[node]:
                found.append(node)
                slots -= free
                if slots <= 0:
                    return found
        return []

    def _compute(self, trial: _Trial, places: list[int], now: float) -> None:
        trial.nodes, trial.turn = places, trial.turn + 1
        self._take(trial, -1)
        trial.began = now + (self._nodes.restart if trial.turn > 1 else 0.0)
        trial.expected = trial.began + trial.left
        self._at(trial.expected, "_end", (trial.work.id, trial.turn))

    def _take(self, trial: _Trial, sign: int) -> None:
        left = trial.work.slots
        for node in trial.nodes:
            share = min(left, self._room[node])
            self._free[node] += sign * share
            left -= share

    def _end(self, about: tuple[str, int], now: float) -> None:
        name, turn = about
        trial = self._running.get(name)
        if trial is None or trial.turn != turn or not trial.nodes:
            return  # it was preempted before
        self._take(trial, 1)
        self._spans.append((trial.since, now, trial.work.slots))
        self._ends[name] = now
        del self._running[name]

    def _preempt(self, node: int, now: float) -> None:
        self._here[node] = False
        self._at(now + self._nodes.away, "_return", node)
        hit = [trial for trial in self._running.values() if node in trial.nodes]
        self._preemptions += bool(hit)
        for trial in hit:
            done = max(0.0, now - trial.began - self._nodes.lost)
            trial.left -= done
            self._take(trial, 1)
            trial.nodes = []
            trial.expected = now + self._nodes.restart + trial.left

    def _return(self, node: int, now: float) -> None:
        self._here[node] = True
        self._next_preemption(node, now)
