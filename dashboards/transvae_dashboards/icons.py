"""Inline SVG icons: the states of a trial and the markers of the families; always beside a word."""

from __future__ import annotations

from transvae_dashboards.markup import Html, tag
from transvae_dashboards.tables import FAMILY_NAMES

STATES = {
    "queued": '<circle cx="8" cy="8" r="5.6" fill="none" stroke="currentColor" stroke-width="1.4"/>'
    '<path d="M8 5v3.2l2 1.4" fill="none" stroke="currentColor" stroke-width="1.4"/>',
    "running": '<circle cx="8" cy="8" r="5.6" fill="none" stroke="currentColor" stroke-width="1.4"/>'
    '<path d="M6.6 5.4v5.2l4.2-2.6z" fill="currentColor"/>',
    "finished": '<path d="M3.2 8.6l3.2 3.2 6.4-7.2" fill="none" stroke="currentColor" stroke-width="2"/>',
    "stopped": '<path d="M4.4 4.4h7.2v7.2H4.4z" fill="none" stroke="currentColor" stroke-width="1.6"/>',
    "failed": '<path d="M4 4l8 8M12 4l-8 8" fill="none" stroke="currentColor" stroke-width="2"/>',
}
FAMILIES = {
    "transvae": '<circle cx="8" cy="8" r="4.6"/>',
    "cnn": '<rect x="3.8" y="3.8" width="8.4" height="8.4"/>',
    "swin": '<path d="M8 3l5.4 9.6H2.6z"/>',
    "vit": '<path d="M8 2.4L13.6 8 8 13.6 2.4 8z"/>',
    "s-vae": '<path d="M8 13L2.6 3.4h10.8z"/>',
    "ps-vae": '<path d="M6 3h4v3h3v4h-3v3H6v-3H3V6h3z"/>',
    "rae": '<path d="M5 3l3 3 3-3 2 2-3 3 3 3-2 2-3-3-3 3-2-2 3-3-3-3z"/>',
}


def state_mark(state: str) -> Html:
    """The state as icon and word."""
    return tag("span", _icon(STATES[state]), f" {state}", class_=f"state {state}")


def family_mark(family: str) -> Html:
    """The family as marker and name, in the chart's colour."""
    marker = Html(_icon(FAMILIES[family], f' fill="var(--{family})"'))
    return tag("span", marker, " ", FAMILY_NAMES[family], class_="family")


def _icon(shape: str, attributes: str = "") -> Html:
    return Html(f'<svg class="icon" viewBox="0 0 16 16" aria-hidden="true"{attributes}>{shape}</svg>')
