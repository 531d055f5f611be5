"""Numbers as people read them."""

from __future__ import annotations

import math
from datetime import UTC, datetime

NONE = "–"
UNITS = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
COUNT_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def number(value: float | None, digits: int = 2) -> str:
    """Fixed decimals, a dash for nothing."""
    return NONE if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def significant(value: float | None, digits: int = 3) -> str:
    """Significant digits without an exponent where that is readable."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        decimals = digits - 1 - (math.floor(math.log10(abs(value))) if value else 0)
        return f"{value:.{max(decimals, 0)}f}"
    return f"{value:.{digits - 1}e}"


def scaled(value: float, units: tuple[tuple[float, str], ...] = UNITS) -> str:
    """Three significant digits and a unit: `1.24 M`."""
    for size, unit in units:
        if value >= size * 0.9995:
            return f"{significant(value / size)} {unit}"
    return f"{value:.0f}"


def parameters(value: float) -> str:
    """A parameter count: `44.1 M`, `2.31 B`."""
    return scaled(value, COUNT_UNITS)


def tick(value: float, units: tuple[tuple[float, str], ...] = COUNT_UNITS) -> str:
    """A short axis label: `50k`, `1M`, `0.15`."""
    for size, unit in units:
        if value >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"


def percent(share: float | None, digits: int = 1, signed: bool = False) -> str:
    """0.123 as `12.3 %`."""
    if share is None or not math.isfinite(share):
        return NONE
    text = f"{100 * share:{'+' if signed else ''}.{digits}f} %"
    return text.replace("-", "−")


def p_value(p: float | None) -> str:
    """`= 0.012`, or `< 0.001`."""
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"= {p:.2g}"


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def moment(at: float) -> str:
    """Seconds since the epoch as a date and time in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
