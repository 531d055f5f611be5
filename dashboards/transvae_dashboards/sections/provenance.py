"""Where the numbers come from: study file, data, code, libraries, machine, tracking server, fits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from transvae_dashboards import formats
from transvae_dashboards.markup import Html, details, escape, join, section, table, tag
from transvae_dashboards.tables import X_WORDS
from transvae_platform.fitting import FitReport
from transvae_platform.redaction import without_password
from transvae_platform.study.state import StudyState

MACHINE = ("host", "machine", "cpus")


def provenance(state: StudyState, fits: Mapping[str, FitReport]) -> Html:
    """The last section."""
    return section(
        "Provenance", tag("div", _data(state), _tracking(state), class_="pair"), _submissions(state), _libraries(state),
        details("Study file, every value resolved", pairs(leaves(state.spec), "Study file")),
        *(details(title, pairs(leaves(report.provenance), title))
          for report in fits.values() for title in (f"Fit over {X_WORDS[report.x_name]}",)),
        anchor="provenance",
    )  # fmt: skip


def _data(state: StudyState) -> Html:
    if state.data is None:
        return tag("div", tag("h3", "Data"), tag("p", "Nothing has been ingested yet.", class_="missing"))
    data = state.data
    facts = [
        ("Images", f"{data['images']:,}"), ("Training samples", f"{data['train']:,}"),
        ("Held-out samples", f"{data['validation']:,}"), ("Skipped files", f"{len(data['skipped']):,}"),
        ("Fingerprint", data["fingerprint"]),
    ]  # fmt: skip
    return tag("div", tag("h3", "Data"), pairs(facts, "Data"))


def _tracking(state: StudyState) -> Html:
    if not state.submissions:
        return tag("div", tag("h3", "Tracking"), tag("p", "Not submitted yet.", class_="missing"))
    last = state.submissions[-1]
    facts = [
        ("MLflow", without_password(last["tracking"])), ("Experiment", state.name), ("Ray", last["cluster"]),
        ("Runs", "one per trial, found by the tag trial_id"),
    ]  # fmt: skip
    return tag("div", tag("h3", "Tracking"), pairs(facts, "Tracking"))


def _submissions(state: StudyState) -> Html:
    if not state.submissions:
        return Html("")
    body = [
        [str(number), formats.moment(entry["at"]), tag("code", str(entry["lineage"]["code"])), entry["cluster"],
         ", ".join(str(entry["lineage"][key]) for key in MACHINE if key in entry["lineage"]) + " CPUs"]
        for number, entry in enumerate(state.submissions, start=1)
    ]  # fmt: skip
    head = ["Submission", "At", "Code", "Cluster", "Machine"]
    return join([tag("h3", "Submissions"), table(head, body, label="Submissions", text=(1, 2, 3, 4))])


def _libraries(state: StudyState) -> Html:
    if not state.submissions:
        return Html("")
    newest = state.submissions[-1]["lineage"]
    facts = [(key, str(value)) for key, value in newest.items() if key not in (*MACHINE, "code")]
    return details("Library versions of the last submission", pairs(facts, "Library versions"))


def pairs(found: Iterable[tuple[str, str]], label: str) -> Html:
    """Names and values, one per line."""
    return table(["", ""], [[key, _value(value)] for key, value in found], label=label, text=(1,), kind="pairs")


def _value(text: str) -> Html:
    return tag("span", escape(text), class_="value")


def leaves(values: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Nested values as `dotted.path`, value."""
    if isinstance(values, Mapping) and values:
        for key, inner in values.items():
            yield from leaves(inner, f"{path}.{key}" if path else str(key))
    elif path:
        yield path, values if isinstance(values, str) else json.dumps(values)
