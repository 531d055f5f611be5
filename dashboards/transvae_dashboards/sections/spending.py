"""Device-hours and cost so far, against what was planned and what is still expected."""

from __future__ import annotations

from transvae_dashboards import formats
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
    head = ["Device", "Spent, h", "Planned, h", "Expected in the end, h", "Spent of the plan"]
    head += ["Cost so far", "Cost expected"] if scene.price else []
    body = [_row(scene, device, [t for t in trials if t.trial.workers.device == device]) for device in devices]
    budget = scene.state.spec.get("resources", {}).get("budget")
    more = f" The study's budget is {budget:g} device-hours." if budget else ""
    if scene.price is None:
        more += " Costs appear with --price, the price of an hour of one device."
    return section(
        "Device-hours", table(head, body, label="Device-hours and cost"), anchor="spending", lead=LEAD + more
    )


def _row(scene: Scene, device: str, trials: list[TrialState]) -> list[str]:
    spent = sum(trial.seconds * trial.trial.workers.workers for trial in trials) / 3600
    planned = planned_hours(scene, trials)
    left = scene.left
    open_ones = [trial for trial in trials if trial.trial.id in left]
    rest = [left[trial.trial.id] for trial in open_ones]
    expected = None
    if None not in rest:
        pairs = zip(rest, open_ones, strict=True)
        expected = spent + sum((seconds or 0.0) * trial.trial.workers.workers for seconds, trial in pairs) / 3600
    cells = [
        device.upper(), hours(spent), hours(planned), hours(expected),
        formats.percent(spent / planned, 0) if planned else formats.NONE,
    ]  # fmt: skip
    if scene.price:
        cells += [
            formats.number(spent * scene.price),
            formats.number(None if expected is None else expected * scene.price),
        ]
    return cells


def planned_hours(scene: Scene, trials: list[TrialState]) -> float | None:
    """What was planned for these trials when each was first submitted; None where one has no plan on record."""
    planned = [scene.state.planned.get(trial.trial.id) for trial in trials]
    return None if None in planned or not planned else sum(value or 0.0 for value in planned) / 3600


def hours(value: float | None) -> str:
    """Hours with three significant digits."""
    return formats.NONE if value is None else formats.significant(value) if value else "0"
