"""One look for every chart and table: colour and marker per family, line weight and opacity per size."""

from __future__ import annotations

from transvae_dashboards.tables import SIZES

# Okabe-Ito's colours, with a purple that stays apart from the other three when printed.
COLOURS = {
    "transvae": "#0072b2", "cnn": "#d55e00", "vit": "#a8578a", "swin": "#009e73", "s-vae": "#a67c00",
    "ps-vae": "#7a4b2a", "rae": "#6c757d",
}  # fmt: skip
MARKERS = {"transvae": "o", "cnn": "s", "swin": "^", "vit": "D", "s-vae": "v", "ps-vae": "P", "rae": "X"}

# Stand-ins for the page's own colours: canvas.py turns them into CSS variables, so that charts follow light and dark.
INK, MUTED, RULE, PAPER = "#010101", "#020202", "#030303", "#fefefe"
VARIABLES = {
    INK: "var(--ink, #1c1f23)", MUTED: "var(--muted, #5d656e)", RULE: "var(--rule, #dfe2e6)",
    PAPER: "var(--paper, #ffffff)",
} | {colour: f"var(--{family}, {colour})" for family, colour in COLOURS.items()}  # fmt: skip


def line_width(size: str) -> float:
    """Larger models have heavier lines."""
    return 0.8 + 0.3 * _rank(size)


def opacity(size: str) -> float:
    """Larger models have stronger lines."""
    return 0.5 + 0.125 * _rank(size)


def _rank(size: str) -> int:
    """Sizes of generators, which have names of their own, count as the largest."""
    return min(SIZES.index(size), 4) if size in SIZES else 4
