"""What a reader must know before the numbers: other code, damage, skipped files, failed trials, unequal training."""

from __future__ import annotations

from collections.abc import Sequence

from transvae_dashboards.icons import family_mark
from transvae_dashboards.laws import cautions
from transvae_dashboards.markup import Html, details, join, prose, tag
from transvae_dashboards.tables import TrialRow
from transvae_platform.study.state import StudyState

SHOWN = 5
"""Skipped files named at once; the others stand behind a title that opens."""


def notices(state: StudyState, rows: Sequence[TrialRow]) -> Html:
    """All notices that apply; nothing when there are none."""
    found = [
        *(_note(Html(""), note) for note in state.notes),
        _damaged(state),
        _failed(rows),
        _skipped(state),
        *(_note(Html(""), text) for text in cautions(state)),
    ]
    return join(notice for notice in found if notice)


def _damaged(state: StudyState) -> Html:
    places = state.damaged
    if not places:
        return Html("")
    items = [tag("li", tag("code", place)) for place in places]
    more = details(f"The other {len(items) - SHOWN}", tag("ul", *items[SHOWN:])) if len(items) > SHOWN else ""
    lead = f"What these said is missing here; `transvae doctor {state.name}` says what to do:"
    return _note(tag("strong", "Damaged journals. "), prose(lead), tag("ul", *items[:SHOWN]), more, kind="bad")


def _failed(rows: Sequence[TrialRow]) -> Html:
    failed = [row for row in rows if row.state == "failed"]
    if not failed:
        return Html("")
    items = [
        tag(
            "li", family_mark(row.family), f" {row.size}{_variant(row)}, seed {row.seed}, ",
            f"at step {row.steps_done:,} of {row.steps:,}: {row.reason or 'no reason recorded'}",
        )
        for row in failed
    ]  # fmt: skip
    title = tag("strong", f"{len(failed)} failed {'trial' if len(failed) == 1 else 'trials'}. ")
    return _note(title, "The same submit command tries them again.", tag("ul", *items), kind="bad")


def _variant(row: TrialRow) -> str:
    return "" if row.variant == "base" else f" ({row.variant})"


def _skipped(state: StudyState) -> Html:
    skipped = state.data["skipped"] if state.data else []
    if not skipped:
        return Html("")
    items = [tag("li", tag("code", skip["name"]), f": {skip['reason']}") for skip in skipped]
    files = "1 file was" if len(items) == 1 else f"{len(items)} files were"
    more = details(f"The other {len(items) - SHOWN}", tag("ul", *items[SHOWN:])) if len(items) > SHOWN else ""
    return _note(tag("strong", "Skipped data. "), f"{files} left out:", tag("ul", *items[:SHOWN]), more)


def _note(*content: str, kind: str = "") -> Html:
    return tag("aside", *content, class_=f"notice {kind}".strip())
