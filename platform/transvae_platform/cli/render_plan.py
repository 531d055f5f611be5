"""A study's plan as a table for people, or a document for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.markup import escape

from transvae_platform.cli.progress import format_seconds
from transvae_platform.cli.render import SCHEMA_VERSION, format_bytes, format_count
from transvae_platform.cli.tables import console, table
from transvae_platform.study.plan import ASSUMED_RATE, PEAK_RATE, Plan, TrialPlan
from transvae_platform.study.prices_spec import Prices
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.spending import spending, spot_seconds, trial_spending
from transvae_platform.study.state import OVER

COLUMNS = ("parameters", "GFLOP/image", "+ losses", "steps", "devices", "time", "hours", "memory", "disk")
MONEY = ("$", "$ spot", "stops")


def print_plan(spec: StudySpec, plan: Plan, prices: Prices) -> None:
    """A study's plan: one row per trial, the totals below."""
    out = console()
    out.print(f"[bold]{spec.study}[/]: {escape(spec.question)}")
    out.print(f"expected: {escape(spec.expected.outcome)} ({escape(spec.expected.source)})\n")
    total = spending(plan, prices)
    columns = (*COLUMNS, *(MONEY if total else ()))
    rows = table(("trial", "left"), *((name, "right") for name in columns), ("state", "left"))
    for row in plan.rows:
        rows.add_row(*_cells(row), *(_money(row, prices) if total else ()), row.state)
    out.print(rows)
    left = len(plan.rows_left)
    out.print(
        f"\n{len(plan.rows)} trials, {left} left to run: {format_seconds(plan.device_seconds)} of device time, about "
        f"{format_seconds(plan.wall_seconds)} on {_devices(plan)}, {format_bytes(plan.disk_bytes)} of checkpoints"
        f"{_latents(plan)}"
    )
    out.print(f"{plan.device_seconds / 3600:,.3g} device-hours")
    if total:
        out.print(
            f"${total.on_demand:,.2f} on demand; ${total.spot:,.2f} on spot, stopped about {total.preemptions:.3g} "
            f"times, about {format_seconds(spot_seconds(plan, prices) or 0)} on {_devices(plan)}",
            highlight=False,
        )
        out.print(_sources(plan, prices), highlight=False, markup=False)
    if devices := sorted({row.measured for row in plan.rows if row.measured}):
        told = sum(row.told for row in plan.rows)
        whose = f", {told} of them by other homes: the tracking server says so" if told else ""
        out.print(f"times without ~ were measured on {' and '.join(devices)}{whose}", markup=False, highlight=False)
    if assumed := {row.trial.workers.device for row in plan.rows if not row.measured}:
        count = sum(not row.measured for row in plan.rows)
        rates = " and ".join(f"{ASSUMED_RATE[kind]:.0e} FLOP/s per {kind}{_share(kind)}" for kind in sorted(assumed))
        out.print(
            f"~ {count} times are not measured but computed from FLOPs and an assumed rate, {rates}; "
            "expect a factor of 3"
        )


def plan_document(plan: Plan, prices: Prices) -> dict[str, Any]:
    """A plan for programs: the same numbers, in base units."""
    total = spending(plan, prices)
    return {
        "schema_version": SCHEMA_VERSION,
        "trials": [_row(row, prices) for row in plan.rows],
        "device_seconds": plan.device_seconds,
        "wall_seconds": plan.wall_seconds,
        "spot_seconds": spot_seconds(plan, prices),
        "dollars": asdict(total) if total else None,
        "prices": prices.model_dump(),
        "disk_bytes": plan.disk_bytes,
        "latents_bytes_per_image": plan.latents_bytes_per_image,
        "images": plan.images,
        "slots": dict(plan.slots),
    }


def _cells(row: TrialPlan) -> list[str]:
    return [
        row.trial.label + (f" seed {row.trial.seed}" if row.trial.seed else ""),
        format_count(row.parameters),
        f"{row.training_flops / row.images / 1e9:.3g}",
        f"{row.losses_flops / row.images / 1e9:.3g}" if row.losses_flops else "",
        str(row.steps),
        row.devices,
        ("" if row.measured else "~") + format_seconds(row.seconds),
        f"{row.seconds * row.trial.workers.workers / 3600:.3g}",
        format_bytes(row.memory_bytes),
        format_bytes(row.disk_bytes),
    ]


def _money(row: TrialPlan, prices: Prices) -> list[str]:
    cost = None if row.state in OVER else trial_spending(row, prices)
    return ["", "", ""] if cost is None else [f"{cost.on_demand:,.2f}", f"{cost.spot:,.2f}", f"{cost.preemptions:.2g}"]


def _row(row: TrialPlan, prices: Prices) -> dict[str, Any]:
    cost = trial_spending(row, prices)
    return {
        "trial": row.trial.id,
        "model": row.trial.model,
        "parameters": row.parameters,
        "forward_flops_per_image": row.forward_flops,
        "training_flops": row.training_flops,
        "losses_flops": row.losses_flops,
        "steps": row.steps,
        "devices": row.devices,
        "seconds": round(row.seconds, 1),
        "device_seconds": round(row.seconds * row.trial.workers.workers, 1),
        "dollars": asdict(cost) if cost else None,
        "measured": row.measured is not None,
        "measured_on": row.measured,
        "told_by_tracking": row.told,
        "memory_bytes": row.memory_bytes,
        "disk_bytes": row.disk_bytes,
        "state": row.state,
    }


def _sources(plan: Plan, prices: Prices) -> str:
    kinds = sorted({row.trial.workers.device for row in plan.rows_left})
    found = [(kind, price) for kind in kinds if (price := getattr(prices, kind)) is not None]
    return "prices: " + "; ".join(
        f"a {kind} {price.on_demand:g} an hour, {price.spot:g} on spot, where a machine is taken away "
        f"{price.preemptions:g} times an hour {'with' if price.notice else 'without'} notice ({price.source})"
        for kind, price in found
    )


def _latents(plan: Plan) -> str:
    each = plan.latents_bytes_per_image
    if not each:
        return ""
    whole = f" ({format_bytes(each * plan.images)})" if plan.images else ""
    return f", {format_bytes(each)} of latents per image{whole}"


def _share(kind: str) -> str:
    return f" (MFU {ASSUMED_RATE[kind] / PEAK_RATE:.2f} of an H100)" if kind == "gpu" else ""


def _devices(plan: Plan) -> str:
    names = {"cpu": "CPU cores", "gpu": "GPUs"}
    used = {row.trial.workers.device for row in plan.rows}
    return " and ".join(f"{plan.slots.get(kind, 0)} {names[kind]}" for kind in sorted(used))
