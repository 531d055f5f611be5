"""The first page: all studies of a home, with the states of their trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transvae_dashboards.icons import state_mark
from transvae_dashboards.markup import Html, join, prose, table, tag
from transvae_dashboards.scene import study_url


@dataclass(frozen=True)
class Glance:
    """One study in its list: how many trials are in which state, and of how many nobody knows yet."""

    states: Mapping[str, int]
    unread: int
    """Trials whose journals are still to be read: they count as queued until then."""


def home_view(studies: Sequence[tuple[str, Glance | str]], home: Path) -> list[Html]:
    """The parts of the page."""
    top = [tag("p", "Dashboard", class_="eyebrow"), tag("h1", "Studies")]
    if not studies:
        text = (
            "holds no study yet. `transvae study submit studies/quickstart.yaml` runs a first one; this page finds it."
        )
        return [*top, tag("p", tag("code", str(home)), " ", prose(text), class_="missing")]
    body = [[tag("a", name, href=study_url(name)), *_standing(found)] for name, found in studies]
    return [*top, table(["Study", "Finished", "States"], body, label="Studies", text=(2,))]


def _standing(found: Glance | str) -> list[Html | str]:
    if isinstance(found, str):
        return ["", tag("span", found, class_="state failed")]
    total = sum(found.states.values())
    if found.unread:
        return ["", f"reading journals: {found.unread} of {total} trials are still to be read"]
    marks = [join([state_mark(state), " ", tag("b", str(count))]) for state, count in found.states.items() if count]
    return [f"{found.states.get('finished', 0)} of {total}", join(marks, "  ") or "no trial queued yet"]
