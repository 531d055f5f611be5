"""Device-hours and cost so far, against what was planned and what is still expected."""

from __future__ import annotations

from transvae_dashboards import formats
from transvae_dashboards.formats import NONE
from transvae_dashboards.markup import Html, section, table
from transvae_dashboards.scene import Scene
from transvae_platform.study.state import TrialState

LEAD = (
    "Device-hours: a trial on 8 GPUs for an hour counts 8; only time between records of an attempt counts, so waiting "
    "and starting processes do not. Planned: the estimate when a trial was first submitted (`transvae study plan` says "
    "what it rests on). Expected: spent, and what is left at the pace measured so far."
)


def spending(scene: Scene) -> Html:
    """One row per kind of device."""
    trials = list(scene.state.trials.values())
    devices = list(dict.fromkeys(trial.trial.workers.device for trial in trials))
    prices = {device: _prices(scene, device) for device in devices}
    kinds = list(dict.fromkeys(kind for found in prices.values() for kind in found))
    head = ["Device", "Spent, h", "Planned, h", "Expected in the end, h", "Spent of the plan"]
    head += [f"{words}, {kind}" for kind in kinds for words in ("Cost so far, $", "planned, $", "in the end, $")]
    body = []
    for device in devices:
        spent, planned, expected = _hours(scene, [t for t in trials if t.trial.workers.device == device])
        cells = [
            hours(spent),
            hours(planned),
            hours(expected),
            formats.percent(spent / planned, 0) if planned else NONE,
        ]
        for kind in kinds:
            cells += [_cost(value, prices[device].get(kind)) for value in (spent, planned, expected)]
        body.append([device.upper(), *cells])
    budget = scene.state.spec.get("resources", {}).get("budget")
    more = f" The study's budget is {budget:g} device-hours." if budget else ""
    more += "" if kinds else " Costs appear with a price: `resources.prices` of the study file, or `--price`."
    shown = table(head, body, label="Device-hours and cost")
    return section("Device-hours", shown, anchor="spending", lead=LEAD + more)


def _hours(scene: Scene, trials: list[TrialState]) -> tuple[float, float | None, float | None]:
    """Device-hours spent, planned, and expected in the end."""
    spent = sum(trial.seconds * trial.trial.workers.workers for trial in trials) / 3600
    rest = [(scene.left[t.trial.id], t.trial.workers.workers) for t in trials if t.trial.id in scene.left]
    known = [seconds * workers for seconds, workers in rest if seconds is not None]
    expected = spent + sum(known) / 3600 if len(known) == len(rest) else None
    return spent, planned_hours(scene, trials), expected


def _prices(scene: Scene, device: str) -> dict[str, float]:
    """Of an hour of a device, by kind: the one that was asked for, else those of the study file."""
    if scene.price is not None:
        return {"as asked": scene.price}
    found = (scene.state.spec.get("resources", {}).get("prices") or {}).get(device) or {}
    names = {"on_demand": "on demand", "spot": "spot"}
    return {words: float(found[key]) for key, words in names.items() if key in found}


def _cost(value: float | None, price: float | None) -> str:
    return NONE if value is None or price is None else f"{value * price:,.2f}"


def planned_hours(scene: Scene, trials: list[TrialState]) -> float | None:
    """What was planned for these trials when each was first submitted; None where one has no plan on record."""
    planned = [scene.state.planned.get(trial.trial.id) for trial in trials]
    return None if None in planned or not planned else sum(value or 0.0 for value in planned) / 3600


def hours(value: float | None) -> str:
    """Hours with three significant digits."""
    return NONE if value is None else formats.significant(value) if value else "0"
