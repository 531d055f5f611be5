"""What the terminal shows of evaluations."""

from __future__ import annotations

from transvae_platform.cli.render import console
from transvae_platform.cli.text import harmless
from transvae_platform.evaluation.records import Record, shown

DIGITS = {"psnr": 2, "ssim": 4, "lpips": 4, "rfid": 3}
UNITS = {"psnr": " dB"}


def print_record(record: Record) -> None:
    """One evaluation: what was measured on what, n beside the numbers, then the warnings."""
    data, px = record.data, record.data["resolution"]
    on = f"{data['name']} ({data['split']}, {px} x {px}), protocol {record.protocol['name']}"
    console().print(harmless(f"{record.model['name']} on {on}"), markup=False, highlight=False, soft_wrap=True)
    numbers = [_number(name, value) for name, value in record.metrics.items()]
    if record.identical:
        numbers.append(f"{record.identical} without any error")
    console().print(f"  n = {record.n:,}: {', '.join(numbers)}", highlight=False, soft_wrap=True)
    for warning in record.warnings:
        console().print(harmless(f"  warning: {warning}"), markup=False, highlight=False, soft_wrap=True)


def _number(name: str, value: float | None) -> str:
    kind = name.removesuffix("_random")
    return f"{name} {shown(value, DIGITS[kind])}{UNITS.get(kind, '')}"
