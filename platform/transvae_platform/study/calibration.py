"""A calibration: every model of a grid at several learning rates; what the rates led to, and which is best.

Rates compete with the rates of the same family, size and seed only: nothing that is fitted or compared across sizes
depends on who was ended early, and every size keeps a winner. The decisions are a function of the journals: they come
when every rate of a size stands at the step or has ended, so neither the order of trials nor an interruption changes
them (`cluster/rounds.py`).
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from transvae_platform.errors import SpecError
from transvae_platform.study.folders import study_folder
from transvae_platform.study.rate_rules import Calibrated
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.state import OVER, StudyState, TrialState

Key = TypeVar("Key")
LIKE = (("grid", "ladder"), ("grid", "code"), ("recipe", "batch_size"), ("recipe", "betas"))
"""Sections and keys without which a rate means something else."""
SIZES = ("T", "B", "L", "H", "G", "giant_printed")
"""In ascending order."""


@dataclass(frozen=True)
class Outcome:
    """What the rates of one family and size led to."""

    family: str
    size: str
    losses: Mapping[float, float]
    """Final loss by rate, mean over seeds; only rates that came to the end with every seed."""
    ended: Mapping[float, str]
    """The others, with the reason."""

    @property
    def best(self) -> float:
        """The rate with the lowest loss."""
        return min(self.losses, key=lambda rate: (self.losses[rate], rate))

    @property
    def optimum(self) -> float | None:
        """The lowest point of the parabola through the best rate and its neighbours, loss over log rate.

        None if one of the neighbours is missing or did not come to the end.
        """
        tried = sorted({*self.losses, *self.ended})
        place = tried.index(self.best)
        around = tried[max(0, place - 1) : place + 2]
        if len(around) < 3 or any(rate not in self.losses for rate in around):
            return None
        (x0, x1, x2), (y0, y1, y2) = map(math.log, around), (self.losses[rate] for rate in around)
        rise, fall = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
        return math.exp((x0 + x1) / 2 - rise * (x2 - x0) / (2 * (fall - rise)))

    @property
    def at_edge(self) -> bool:
        """Whether the best rate is the lowest or highest that was tried: the optimum may lie beyond."""
        tried = {*self.losses, *self.ended}
        return self.best in (min(tried), max(tried))


def find_rates(spec: StudySpec, home: Path, begun: StudyState | None = None) -> dict[str, float]:
    """What the calibration study that a study names found, by `family-size`; empty where it names none.

    Args:
        begun: the study itself, where it was submitted before: it goes on with the rates that it began with.

    Raises:
        SpecError: it names two, one that is not in the home, or one whose rates are for something else.
    """
    rules = [spec.recipe.learning_rate, *(values.learning_rate for values in spec.recipe.overrides.values())]
    names = sorted({rule.calibrated for rule in rules if isinstance(rule, Calibrated)})
    if not names:
        return {}
    if begun and begun.trials:
        trials = sorted(begun.trials.values(), key=lambda trial: trial.trial.variant != "base", reverse=True)
        return {"-".join(_model(trial)): _rate(trial) for trial in trials}
    if len(names) > 1:
        raise SpecError(f"recipe.learning_rate: {' and '.join(names)} are named as calibration - name one")
    folder = study_folder(home, names[0])
    if not (folder / "journal.jsonl").exists():
        raise SpecError(f"recipe.learning_rate: {home} holds no study {names[0]!r} - submit it first, or give a number")
    state = StudyState(folder)
    if not state.spec.get("calibration"):
        raise SpecError(f"recipe.learning_rate: the study {names[0]!r} is no calibration: it has no such section")
    if left := [trial for trial in state.trials.values() if trial.state not in OVER]:
        raise SpecError(
            f"recipe.learning_rate: {len(left)} trials of the study {names[0]!r} are not finished - submit it again"
        )
    ours = spec.model_dump(mode="json")
    for section, key in LIKE:
        here, there = ours[section][key], state.spec[section][key]
        if here != there:
            raise SpecError(
                f"recipe.learning_rate: the study {names[0]!r} is for {section}.{key} {there}, not {here} - calibrate "
                "for it, or give a number"
            )
    return rates_of(outcomes(state), {"-".join(_model(trial)) for trial in state.trials.values()})


def outcomes(state: StudyState) -> list[Outcome]:
    """What is known so far, by family and ascending size; sizes without a finished rate are left out."""
    metric = state.spec["fits"]["metric"]
    found = []
    for (family, size), trials in _grouped(state.trials.values(), _model):
        losses, ended = {}, {}
        for rate, seeds in _grouped(trials, _rate):
            values = [trial.final.get(metric) for trial in seeds]
            known = [value for value in values if value is not None]
            if len(known) == len(values):
                losses[rate] = statistics.fmean(known)
            else:
                lost = next(trial for trial, value in zip(seeds, values, strict=True) if value is None)
                ended[rate] = lost.reason or f"{lost.state} at step {lost.step}"
        if losses:
            found.append(Outcome(family, size, losses, ended))
    return sorted(found, key=lambda outcome: (outcome.family, SIZES.index(outcome.size)))


def rates_of(found: Iterable[Outcome], tried: Collection[str] = ()) -> dict[str, float]:
    """The best rate by `family-size`; a larger size that was not tried takes that of the largest smaller one.

    Args:
        tried: every `family-size` of the calibration: from one on at which no rate came to the end, there is none.
    """
    best = {f"{outcome.family}-{outcome.size}": outcome.best for outcome in found}
    rates: dict[str, float] = {}
    for family in {outcome.family for outcome in found}:
        newest = None
        for cell in (f"{family}-{size}" for size in SIZES):
            newest = best.get(cell, None if cell in tried else newest)
            if newest is not None:
                rates[cell] = newest
    return rates


def transfer(found: Sequence[Outcome]) -> list[tuple[str, str]]:
    """(family, sentence) of each step from one tried size to the next: whether the best of one serves the other."""
    sentences = []
    for family, tried in itertools.groupby(found, key=lambda outcome: outcome.family):
        sentences += [(family, _step(small, large)) for small, large in itertools.pairwise(tried)]
    return sentences


def _step(small: Outcome, large: Outcome) -> str:
    names, rate = f"{small.size} to {large.size}", small.best
    edge = " (at the edge of what was tried: the optimum may lie beyond)" if small.at_edge or large.at_edge else ""
    if rate == large.best:
        return f"{names}: {rate:g} is best at both{edge}"
    said = f"{names}: the best rate moves from {rate:g} to {large.best:g}{edge}"
    if rate not in large.losses:
        return f"{said}; {rate:g} at {large.size}: {large.ended.get(rate, 'not tried')}"
    cost = large.losses[rate] / large.losses[large.best] - 1
    return f"{said}; keeping {rate:g} costs {large.size} {cost:.1%} of its loss"


def undecided(state: StudyState, step: int) -> set[str]:
    """Ids of the trials whose size cannot be decided at a step: a rate stands before it, and has not ended."""
    groups = [trials for _, trials in _grouped(state.trials.values(), _rivals)]
    return {trial.trial.id for trials in groups if not _complete(trials, step) for trial in trials}


def slower_rates(state: StudyState, step: int, keep: float) -> list[tuple[TrialState, str]]:
    """The trials that end at a step, with the reason: of each family, size and seed the worse rates at that step.

    A size that is undecided is left out.

    Args:
        keep: share of the rates that reached the step that goes on, rounded up.
    """
    metric, ending = state.spec["fits"]["metric"], []
    for _, trials in _grouped(state.trials.values(), _rivals):
        if not _complete(trials, step):
            continue
        entered = [trial for trial in trials if trial.step >= step]  # one that was ended here competed, too
        loss = {t.trial.id: t.validation[step]["metrics"].get(metric) for t in entered if step in t.validation}
        ranked = sorted(entered, key=lambda trial: (_or_worst(loss.get(trial.trial.id)), _rate(trial)))
        going = ranked[: max(1, math.ceil(keep * len(ranked)))]
        for trial in ranked[len(going) :]:
            if trial.state in ("queued", "failed"):
                better, own = ", ".join(f"{_rate(other):g}" for other in going), _said(loss.get(trial.trial.id))
                ending.append((trial, f"{metric} {own} at step {step}; {better} did better"))
    return ending


def _complete(trials: Sequence[TrialState], step: int) -> bool:
    return all(trial.step >= step or trial.state == "stopped" for trial in trials)


def _grouped(trials: Iterable[TrialState], key: Callable[[TrialState], Key]) -> Iterator[tuple[Key, list[TrialState]]]:
    """The trials of each value of the key, in the order in which the values first come."""
    groups: dict[Key, list[TrialState]] = {}
    for trial in trials:
        groups.setdefault(key(trial), []).append(trial)
    yield from groups.items()


def _rivals(trial: TrialState) -> tuple[str, str, int]:
    return (*_model(trial), trial.trial.seed)


def _model(trial: TrialState) -> tuple[str, str]:
    return trial.trial.family, trial.trial.size


def _rate(trial: TrialState) -> float:
    return trial.trial.recipe.learning_rate


def _or_worst(loss: float | None) -> float:
    return math.inf if loss is None or not math.isfinite(loss) else loss


def _said(loss: float | None) -> str:
    return "unknown" if loss is None else f"{loss:.4g}"
