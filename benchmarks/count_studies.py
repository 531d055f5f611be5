"""Counts what the plans of all shipped studies need and writes the table that ships (`study/counts.py`): `make counts`.

To be run whenever the sources in models/transvae have changed; a test says when. Takes a minute or two on one core,
nothing where the user's own table has the counts already.
"""

from __future__ import annotations

import itertools
from pathlib import Path

from transvae_platform.study.costs import losses_flops, memory_bytes, model_cost
from transvae_platform.study.counts import SHIPPED, counts
from transvae_platform.study.grid import build_grid
from transvae_platform.study.load import load_study
from transvae_platform.study.trial import Trial

STUDIES = Path(__file__).parents[1] / "studies"
PLAIN = ("quickstart", "micro20", "calibration")  # have no other size


def shipped_trials() -> list[Trial]:
    """Of every study file that ships, in every size."""
    found: list[Trial] = []
    for file, changes in itertools.product(sorted(STUDIES.glob("*.yaml")), ((), ("scale=micro",))):
        if not changes or file.stem not in PLAIN:
            found += build_grid(load_study(file, changes), "")
    return found


def main() -> None:
    for trial in shipped_trials():
        cost = model_cost(trial)
        losses_flops(trial)
        memory_bytes(trial, int(cost["parameters"]))
    print(f"{counts().ship()} counts in {SHIPPED}")


if __name__ == "__main__":
    main()
