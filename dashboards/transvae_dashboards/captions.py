"""What a chart's caption says: what was measured, and from which runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from transvae_dashboards.tables import FAMILY_NAMES, SIZE_NAMES, SIZES, TrialRow, rank_of
from transvae_platform.fitting import FitReport
from transvae_platform.study.state import TrialState

Run = tuple[str, str, int]
"""Family (or a generator's), size, seed."""


def of_rows(study: str, rows: Iterable[TrialRow]) -> str:
    """The runs behind a chart, e.g. `10 trials of quickstart: TransVAE T, B, L, H, G, CNN T, B, L, H, G; seed 0.`"""
    return _sentence(study, [(row.family, row.size, row.seed) for row in rows])


def of_trials(study: str, trials: Iterable[TrialState]) -> str:
    """The same of trials, generators among them."""
    return _sentence(study, [(one.trial.family, one.trial.size, one.trial.seed) for one in trials])


def of_fit(study: str, report: FitReport, families: Sequence[str] | None = None) -> str:
    """The same of what a fit rests on, of some of its families or all; fits know how many seeds, not which."""
    fits = [fit for fit in report.families if families is None or fit.family in families]
    runs = sum(len(size.values) for fit in fits for size in fit.sizes)
    names = [
        _family(fit.family, [size.size for size in fit.sizes]) for fit in sorted(fits, key=lambda f: rank_of(f.family))
    ]
    if not runs:
        return f"No finished trial of {study} yet."
    seeds = {len(size.values) for fit in fits for size in fit.sizes}
    each = f"{min(seeds)}" if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    return f"{_trials(runs)} of {study}: {', '.join(names)}; {each} {'seed' if each == '1' else 'seeds'} of each size."


def _sentence(study: str, runs: Sequence[Run]) -> str:
    if not runs:
        return f"No trial of {study} yet."
    families = sorted(dict.fromkeys(family for family, _, _ in runs), key=rank_of)
    names = [_family(name, [size for family, size, _ in runs if family == name]) for name in families]
    seeds = sorted({seed for _, _, seed in runs})
    said = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
    return f"{_trials(len(runs))} of {study}: {', '.join(names)}; {said}."


def _trials(count: int) -> str:
    return f"{count:,} {'trial' if count == 1 else 'trials'}"


def _family(name: str, sizes: Iterable[str]) -> str:
    known = dict.fromkeys(sizes)
    ordered = [size for size in SIZES if size in known] + [size for size in known if size not in SIZES]
    return f"{FAMILY_NAMES.get(name, name)} {', '.join(SIZE_NAMES.get(size, size) for size in ordered)}"
