"""How a study stands: every trial, who runs it, when it will be done, what is wrong with it."""

from __future__ import annotations

import time
from typing import Any

from rich.markup import escape

from transvae_platform.cli.progress import failed_attempt, format_seconds, quality
from transvae_platform.cli.render import SCHEMA_VERSION
from transvae_platform.cli.tables import console, table
from transvae_platform.study.eta import seconds_left, study_seconds_left
from transvae_platform.study.lease import life, read_holder
from transvae_platform.study.state import StudyState, TrialState


def status_document(state: StudyState) -> dict[str, Any]:
    """A study's state for programs; looks for a few seconds whether its lease beats."""
    lease = _lease(state)
    left = seconds_left(state) if lease and lease["alive"] else {}
    return {
        "schema_version": SCHEMA_VERSION,
        "study": state.name,
        "lease": lease,
        "seconds_left": _rounded(study_seconds_left(state)) if left else None,
        "trials": [_trial(trial, left.get(trial.trial.id), state.waits_for(trial)) for trial in state.trials.values()],
        "damaged": state.damaged,
        "notes": state.notes,
    }


def print_status(state: StudyState) -> None:
    """The same for people."""
    out, document = console(), status_document(state)
    rows = table(
        ("trial", "left"),
        ("state", "left"),
        ("step", "right"),
        ("quality", "right"),
        ("time", "right"),
        ("left", "right"),
        ("attempts", "right"),
        ("preempted", "right"),
        ("remarks", "left"),
    )
    for row in document["trials"]:
        left = row["seconds_left"]
        rows.add_row(
            row["trial"],
            row["state"],
            f"{row['step']}/{row['steps']}",
            quality(row["metrics"]),
            format_seconds(row["seconds"]),
            f"~{format_seconds(left)}" if row["state"] == "running" and left is not None else "",
            str(row["attempts"]),
            str(row["preemptions"] or ""),
            escape(_remark(row)),
        )
    out.print(rows)
    out.print(_running(document), markup=False, highlight=False)
    for place in document["damaged"]:
        out.print(f"records lost: {place} - what to do: `transvae doctor {state.name}`", markup=False)
    for note in document["notes"]:
        out.print(note, highlight=False)


def _trial(trial: TrialState, left: float | None, waits_for: str | None) -> dict[str, Any]:
    return {
        "trial": trial.trial.id,
        "state": trial.state,
        "step": trial.step,
        "steps": trial.trial.recipe.steps,
        "attempts": trial.attempts,
        "preemptions": trial.preemptions,
        "seconds": round(trial.seconds, 1),
        "seconds_left": _rounded(left),
        "reason": trial.reason,
        "failed_attempts": [
            {key: record[key] for key in ("attempt", "of", "charged", "reason")} for record in trial.broken
        ],
        "alarm": trial.alarm,
        "waits_for": waits_for,
        "lost": trial.lost,
        "metrics": trial.validation[max(trial.validation)]["metrics"] if trial.validation else {},
        "registered": trial.registered["uri"] if trial.registered else None,
        "unregistered": trial.unregistered,
    }


def _remark(row: dict[str, Any]) -> str:
    if row["reason"] or row["alarm"] or row["waits_for"]:
        return str(row["reason"] or row["alarm"] or row["waits_for"])
    if row["unregistered"]:
        return f"not registered: {row['unregistered']}"
    if row["failed_attempts"]:
        told = failed_attempt(row["failed_attempts"][-1])
        return f"earlier: {told}" if row["state"] == "finished" else told
    return f"earlier: {row['lost'][-1]}" if row["lost"] else ""


def _lease(state: StudyState) -> dict[str, Any] | None:
    holder = read_holder(state.folder)
    if holder is None:
        return None
    sign = life(state.folder)
    said = {"pid": holder.pid, "host": holder.host, "since": holder.since}
    return {**said, "alive": sign is not None, "beats": sign == "beats"}


def _running(document: dict[str, Any]) -> str:
    lease, left = document["lease"], document["seconds_left"]
    if lease is None:
        return "no process runs this study"
    who = f"process {lease['pid']} on {lease['host']}"
    doctor = f"`transvae doctor {document['study']}`"
    if not lease["alive"]:
        return f"{who} held the study but shows no life - submit it again, or ask {doctor}"
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(lease["since"]))
    running = f"{who} runs it since {since}" + (f", about {format_seconds(left)} left" if left is not None else "")
    return running if lease["beats"] else f"{running}; its counter stands still: is the home full? {doctor} looks"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
