"""How near to the shortest possible time does the scheduling policy come, on clusters that lose nodes?

    python benchmarks/simulate.py OUTPUT.json [draws=5] [picture=FILE.png]

Sets of 20, 200 and 2000 trials on 64, 512 and 4096 GPUs in nodes of 8, with no preemption and with 5 % per node and
hour, through the policy that studies use (`study/scheduling.py`) in the order that they use (`study/ordering.py`).
Trials are drawn, there is no trace of a real study of this size: 2 to 632 GPU-hours, log-uniform; gangs of 1 to 64,
powers of two near the 0.75th power of the hours (assumptions). Preempted trials have a notice, so they lose no step but
62 s (`benchmarks/recovery.py`); beside it what half an hour between checkpoints costs without one. Spot prices are a
trace of hourly steps around 0.4 of the price on demand (assumption), so costs are shares of that on demand.
Wanted: at most 1.05 x the lower bound from 20 trials on, 1.10 x under preemption (medians over draws).
Exit code 1 where that is missed.
"""

import math
import random
import statistics
import sys
import time

from micro import write

from transvae_platform.study.ordering import good_order
from transvae_platform.study.scheduling import Work
from transvae_platform.study.simulation import Nodes, Simulated, lower_bound, simulate

TRIALS, GPUS = (20, 200, 2000), (64, 512, 4096)
HOURLY = 0.05
HALF_INTERVAL = 900.0
DAYS = 365


def draw_trials(count: int, capacity: int, seed: int) -> list[Work]:
    """Trials of 2 to 632 GPU-hours."""
    draw, works = random.Random(seed), []
    for index in range(count):
        hours = 2 * 10 ** draw.uniform(0, 2.5)
        slots = 2 ** min(6, max(0, round(draw.gauss(0.75 * math.log2(hours / 2), 0.7))))
        works.append(Work(f"trial-{index}", min(slots, capacity), 3600 * hours / min(slots, capacity)))
    return works


def draw_prices(seed: int) -> list[tuple[float, float]]:
    """Spot prices as shares of the price on demand, by the hour: a walk that returns to 0.4, between 0.2 and 1."""
    draw, price, found = random.Random(seed), 0.4, []
    for hour in range(24 * DAYS):
        found.append((3600.0 * hour, price))
        price = min(1.0, max(0.2, price + 0.1 * (0.4 - price) + draw.gauss(0, 0.03)))
    return found


def main() -> None:
    options = dict(argument.split("=") for argument in sys.argv[2:])
    draws = int(options.get("draws", 5))
    rows, shown = [], None
    for count in TRIALS:
        for capacity in GPUS:
            cells: dict[str, list[float]] = {}
            for seed in range(draws):
                works, nodes = draw_trials(count, capacity, seed), Nodes(capacity, hourly=HOURLY, seed=seed)
                bound, before = lower_bound(works, capacity), time.process_time()
                order = good_order(works, capacity)
                cells.setdefault("ordering_cpu_s", []).append(time.process_time() - before)
                calm = simulate(works, Nodes(capacity), order)
                noticed = simulate(works, nodes, order)
                sudden = simulate(works, Nodes(capacity, hourly=HOURLY, lost=HALF_INTERVAL, seed=seed), order)
                for name, outcome in (("calm", calm), ("noticed", noticed), ("sudden", sudden)):
                    cells.setdefault(f"{name}_over_bound", []).append(outcome.seconds / bound)
                    cells.setdefault(f"{name}_wasted_share", []).append(outcome.wasted / outcome.useful)
                cells.setdefault("cost_of_on_demand", []).append(noticed.cost(draw_prices(seed)) / (calm.held / 3600))
                cells.setdefault("preemptions", []).append(noticed.preemptions)
                cells.setdefault("hours", []).append(noticed.seconds / 3600)
                if (count, capacity, seed) == (200, 512, 0):
                    shown = noticed
            medians = {name: statistics.median(values) for name, values in cells.items()}
            worst = {f"worst_{name}": max(cells[f"{name}_over_bound"]) for name in ("calm", "noticed")}
            rows.append({"trials": count, "gpus": capacity, **medians, **worst})
            print(rows[-1], flush=True)
    assert shown
    if "picture" in options:
        picture(rows, shown, options["picture"])
    write("numpy", draws=draws, hourly=HOURLY, half_interval_s=HALF_INTERVAL, rows=rows)
    missed = [row for row in rows if row["calm_over_bound"] > 1.05 or row["noticed_over_bound"] > 1.10]
    sys.exit(bool(missed))


def picture(rows: list[dict[str, float]], shown: Simulated, file: str) -> None:
    """Left: the time over its lower bound; right: GPUs that trials hold, of one simulated study."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
    for gpus, marker in zip(GPUS, "os^", strict=True):
        some = [row for row in rows if row["gpus"] == gpus]
        for name, colour, said in (
            ("calm", "#0b6e99", "nothing fails"),
            ("noticed", "#b5542b", "5 % of nodes an hour"),
        ):
            left.plot(
                [row["trials"] for row in some], [row[f"{name}_over_bound"] for row in some], marker=marker,
                color=colour, fillstyle="full" if name == "calm" else "none", label=f"{gpus} GPUs, {said}",
            )  # fmt: skip
    left.set(xscale="log", xlabel="trials", ylabel="time / lower bound", ylim=(0.995, 1.13))
    left.set_xticks(TRIALS, [str(count) for count in TRIALS])
    left.legend(fontsize=7, frameon=False, ncols=2, loc="upper center")
    edges = sorted(edge for start, end, slots in shown.spans for edge in ((start, slots), (end, -slots)))
    held, when, level = [0], [0.0], 0
    for moment, change in edges:
        level += change
        when.append(moment / 3600)
        held.append(level)
    right.step(when, held, where="post", color="#0b6e99", linewidth=1)
    right.axhline(512, color="0.6", linewidth=0.8)
    right.set(xlabel="hours", ylabel="GPUs that trials hold", title="200 trials on 512 GPUs, 5 % of nodes an hour")
    right.title.set_fontsize(9)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
