"""A good order for a study's trials: the policy is simulated with several, and the one that ends first is taken.

By their length alone, 20 trials of 1 to 64 GPUs take up to a tenth longer on 64 GPUs than need be; hundreds of trials
fill the gaps by themselves (`benchmarks/simulate.py`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from transvae_platform.study.scheduling import Work, among, chains
from transvae_platform.study.simulation import Nodes, lower_bound, simulate

NEAR = 1.01  # times the lower bound: nothing better is looked for (assumption)
TRIES = 300  # moves of one trial to another place (assumption: half a second for 20 trials)
MOST = 100  # trials for which moves are tried; with more, the order by length is within 4 % of the bound (measured)
SEED = 0


def good_order(works: Sequence[Work], capacity: int) -> list[str]:
    """Ids in the order in which the policy shall look at them: the same for the same works.

    Works of one kind. They start from the orders by length, by slot-seconds and by what waits for them; then single
    trials are moved, and what ends no later is kept.
    """
    fitting = among([work for work in works if work.slots <= capacity])
    if not fitting:
        return []

    def seconds(order: Sequence[str]) -> float:
        return simulate(fitting, Nodes(capacity), order).seconds

    by_area = [work.id for work in sorted(fitting, key=lambda work: (-work.slot_seconds, work.id))]
    by_length = [work.id for work in sorted(fitting, key=lambda work: (-work.seconds, -work.slots, work.id))]
    tails = chains(fitting)
    by_chain = [work.id for work in sorted(fitting, key=lambda work: (-tails[work.id], -work.slots, work.id))]
    least, order = min((seconds(order), order) for order in (by_length, by_area, by_chain))
    enough, draw = NEAR * lower_bound(fitting, capacity), random.Random(SEED)
    for _ in range(TRIES if len(order) <= MOST else 0):
        if least <= enough:
            break
        moved = list(order)
        moved.insert(draw.randrange(len(moved)), moved.pop(draw.randrange(len(moved))))
        if (after := seconds(moved)) <= least:
            least, order = after, moved
    return order
