"""One study as one page shows it: its state, what the address asks for, and how links are written.

The live dashboard links to other addresses; in the report there are none, so choices fall away, defaults are shown, and
a trial's name leads to its registered model further down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode

from transvae_dashboards.follow.study import FollowedStudy
from transvae_dashboards.laws import fit_study
from transvae_dashboards.markup import Html, escape, join, tag
from transvae_dashboards.tables import TrialRow, study_table
from transvae_platform.fitting import FitReport
from transvae_platform.study.eta import seconds_left
from transvae_platform.study.state import TrialState

Registry = Callable[[], "list[dict[str, Any]] | str"]
Fits = Callable[[FollowedStudy], Mapping[str, FitReport]]


@dataclass
class Scene:
    """What views draw from."""

    state: FollowedStudy
    query: Mapping[str, str] = field(default_factory=dict)
    live: bool = False
    view: str = "overview"
    price: float | None = None
    """Of an hour of one device."""
    registry: Registry | None = None
    """What MLflow says of the study's models, or why it says nothing yet; None: nobody asked it."""
    others: Callable[[str], FollowedStudy | None] = lambda name: None
    """Other studies of the home, by name."""
    names: Sequence[str] = ()
    """Of all studies of the home."""
    running: bool = False
    """Whether a process runs the study now."""
    fits_of: Fits = fit_study

    @cached_property
    def rows(self) -> tuple[TrialRow, ...]:
        return study_table(self.state)

    @cached_property
    def fits(self) -> Mapping[str, FitReport]:
        return self.fits_of(self.state)

    @cached_property
    def left(self) -> Mapping[str, float | None]:
        """Seconds that each trial has still to compute, of those that are not over."""
        return seconds_left(self.state)

    def one(self, key: str, known: Sequence[str], default: str) -> str:
        """The value that the address gives a key, if it is one of the known ones."""
        value = self.query.get(key, default)
        return value if value in known else default

    def many(self, key: str, known: Sequence[str]) -> list[str]:
        """The known values among those that the address gives, separated by commas; all of them where it gives none."""
        chosen = self.query.get(key, "").split(",")
        return [value for value in known if value in chosen] or list(known)

    def to(self, view: str, /, **query: str | None) -> str | None:
        """The address of a view of this study; None in the report."""
        return study_url(self.state.name, view, **query) if self.live else None

    def again(self, **changes: str | None) -> str | None:
        """The address of this view with other choices."""
        return self.to(self.view, **{**self.query, **changes})

    def trial(self, trial: TrialState) -> str | None:
        """The address of a trial's page; in the report the place of its registered model, if it has one."""
        name = quote(trial.trial.id, safe="")
        return self.to(f"trial/{name}") if self.live or not trial.registered else f"#{name}"

    def named(self, trial: TrialState, text: str) -> Html:
        """A trial's name, leading to its page where there is one."""
        url = self.trial(trial)
        return tag("a", text, href=url) if url else escape(text)

    def choice(self, label: str, key: str, options: Iterable[tuple[str, str]], current: str) -> Html:
        """One of several, as links; nothing in the report."""
        if not self.live:
            return Html("")
        links = [
            tag("a", words, href=self.again(**{key: value}), aria_current="true" if value == current else None)
            for value, words in options
        ]
        return tag("p", tag("span", f"{label}: "), join(links, " "), class_="choice")

    def subset(self, label: str, key: str, options: Sequence[tuple[str, str]]) -> Html:
        """Any of several, as links that add or remove one; nothing in the report, or where there is but one."""
        if not self.live or len(options) < 2:
            return Html("")
        chosen = self.query.get(key, "").split(",")
        known = [value for value, _ in options]
        picked = [value for value in known if value in chosen]
        links = [tag("a", "all", href=self.again(**{key: None}), aria_current="true" if not picked else None)]
        for value, words in options:
            changed = [other for other in known if (other in picked) != (other == value)]
            links.append(
                tag("a", words, href=self.again(**{key: ",".join(changed) or None}),
                    aria_current="true" if value in picked else None)
            )  # fmt: skip
        return tag("p", tag("span", f"{label}: "), join(links, " "), class_="choice")


def study_url(name: str, view: str = "overview", /, **query: str | None) -> str:
    """The address of a study's view on the server."""
    given = {key: value for key, value in query.items() if value}
    return f"/study/{quote(name, safe='')}/{view}" + (f"?{urlencode(given, safe=',/')}" if given else "")
