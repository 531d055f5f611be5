"""What a plan costs in dollars, on demand and on spot machines, where preemptions make trials longer.

A trial on n spot machines, each taken away r times an hour, that would train for T hours, is stopped r n T' times in
the T' hours that it takes: T' = T + r n T' w, with w the time until it is again where it was (restart, work done
again). While a machine is replaced, those that the trial keeps cost money, too. Expected values; the time on the
cluster is the median of a few simulated runs of the very policy (`simulation.py`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace

from transvae_platform.errors import SpecError
from transvae_platform.study.plan import Plan, TrialPlan
from transvae_platform.study.prices_spec import Price, Prices
from transvae_platform.study.scheduling import Work
from transvae_platform.study.simulation import Nodes, simulate

NODE = 8  # GPUs of the largest machines of cluster.yaml
DRAWS = 5  # simulated runs, of which the median is told (assumption)
HOUR = 3600.0


@dataclass(frozen=True)
class Spending:
    """Of one trial, or of all."""

    on_demand: float
    """Dollars."""
    spot: float
    preemptions: float
    """Expected."""

    def __add__(self, other: Spending) -> Spending:
        return Spending(self.on_demand + other.on_demand, self.spot + other.spot, self.preemptions + other.preemptions)


def trial_spending(row: TrialPlan, prices: Prices) -> Spending | None:
    """What is left of a trial will cost; None where its kind of device has no price.

    Raises:
        SpecError: it is preempted so often that it never ends.
    """
    price = getattr(prices, row.trial.workers.device)
    if price is None:
        return None
    return _spending(row.trial.label, row.seconds_left, row.trial.workers.workers, price, lost_seconds(row, price))


def spending(plan: Plan, prices: Prices) -> Spending | None:
    """Of all trials and latents that have a price; None where none has one."""
    errands = [work for work in plan.agenda.works if work.id not in {row.trial.id for row in plan.rows_left}]
    costs = [trial_spending(row, prices) for row in plan.rows_left] + [
        _spending(work.id, work.seconds, work.slots, price, 0.0)
        for work in errands
        if (price := getattr(prices, work.kind)) is not None
    ]
    found = [cost for cost in costs if cost is not None]
    return sum(found[1:], found[0]) if found else None


def _spending(label: str, seconds: float, workers: int, price: Price, lost: float) -> Spending:
    """Args: seconds: of work that is left; lost: of work that a preemption undoes."""
    machines, hours = math.ceil(workers / NODE), seconds / HOUR
    again = (Nodes.restart + lost) / HOUR
    share = price.preemptions * machines * again
    if share >= 1:
        raise SpecError(
            f"resources.prices: {label} is preempted {price.preemptions * machines:g} "
            f"times an hour and needs {again:.2f} hours to come back, so it never ends - lower `preemptions`, or plan "
            "for machines on demand"
        )
    taken = price.preemptions * machines * hours / (1 - share)
    idle = taken * Nodes.away / HOUR * (workers - workers / machines)
    return Spending(hours * workers * price.on_demand, (hours / (1 - share) * workers + idle) * price.spot, taken)


def spot_seconds(plan: Plan, prices: Prices) -> float | None:
    """Until the study is done if all its machines are spot; None where none of its devices has a price."""
    ends = [_simulated(plan, kind, price) for kind in plan.slots if (price := getattr(prices, kind)) is not None]
    return max((end for end in ends if end is not None), default=None)


def lost_seconds(row: TrialPlan, price: Price) -> float:
    """Work that a preemption costs a trial: none with a notice, else half of what lies between two checkpoints."""
    if price.notice:
        return 0.0
    return row.seconds * min(1.0, row.trial.evaluation.every / row.steps) / 2


def _simulated(plan: Plan, kind: str, price: Price) -> float | None:
    capacity = max(1, plan.slots[kind])
    works = [_fitting(work, capacity) for work in plan.agenda.works if work.kind == kind]
    if not works:
        return None
    # latents go on where their last whole shard ended
    lost: Mapping[str, float] = {row.trial.id: lost_seconds(row, price) for row in plan.rows_left}
    nodes = Nodes(
        capacity,
        size=min(NODE, capacity),
        hourly=price.preemptions,
        lost=statistics.fmean(lost.get(work.id, 0.0) for work in works),
    )
    runs = [simulate(works, replace(nodes, seed=seed), plan.agenda.order).seconds for seed in range(DRAWS)]
    return statistics.median(runs)


def _fitting(work: Work, capacity: int) -> Work:
    """As `makespan` does: a plan is made for more than what can run."""
    return replace(work, slots=min(work.slots, capacity))
