"""Attempts at a trial that fail: how each is told, how many a trial has, and when another one is of no use.

Protocol
1. Ray starts a trial's workers again when one of them fails, as often as `max_failures` says for all drivers of a
   submission together. What a preemption ended is not charged.
2. Each failure is a record `attempt_failed` of the trial's journal, whether the attempt had come to `started` or not:
   its reason in one line, which of how many attempts it was, whether a process died. Ray's controller writes it, and
   takes the attempt's token first (`study/lease.py`, 5): what the attempt's workers still do changes nothing.
3. An error, unlike the death of a process, that comes back in the next attempts with the same reason before any of them
   took a step ends the trial as failed before its attempts are used up: after SAME_IN_CODE where the kind of error says
   that the code is wrong, after SAME where a file system or a network may have been away.
4. Workers that Ray starts after that find `failed` at the end of the journal, and return.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray.exceptions import RayActorError
from ray.train import UserCallback

from transvae_platform.errors import UserError
from transvae_platform.study.journal import Journal, read_journal
from transvae_platform.study.lease import Fence, SupersededError
from transvae_platform.study.record import Record

SAME_IN_CODE, SAME = 2, 5
"""Failures in a row, with the same reason and no step between, that end a trial (assumption)."""
SETTLE_SECONDS = 0.2
"""For a record whose writer looked at its token before it was taken, and which must not come after (assumption)."""
IN_CODE = (ImportError, SyntaxError, NameError, AttributeError, TypeError, LookupError, ValueError, AssertionError)
"""Kinds of errors that the next attempt makes again, on any machine."""


def charged(folder: Path) -> int:
    """Attempts at a trial that count as failures if they are over: all but those that a preemption ended."""
    return _charged(read_journal(folder / "journal.jsonl"))


def _charged(records: Sequence[Record]) -> int:
    count, begun, spared = 0, False, False
    for record in records:
        match record["event"]:
            case "started":
                count, begun, spared = count + 1, True, False
            case "preempted" if begun and not spared:  # one attempt may hear of several notices
                count, spared = count - 1, True
            case "attempt_failed":
                if begun and not spared and not record["charged"]:
                    count -= 1
                elif not begun and record["charged"]:  # it failed before it could say that it began
                    count += 1
                begun = False
    return count


class TellFailures(UserCallback):
    """Runs in Ray's controller of a trial: writes each failure of its workers into the journal (protocol 2, 3)."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        # an error here would end the controller and with it the trial
        try:
            tell_failure(self._job, worker_exceptions)
        except SupersededError:
            logging.getLogger(__name__).info("a later submission runs the trial: its journal is not ours any more")
        except (UserError, OSError) as error:  # a full disk: the attempt counts all the same, by Ray
            logging.getLogger(__name__).error("a failed attempt is not told: %s", error)


def tell_failure(job: dict[str, Any], failures: Mapping[int, BaseException]) -> None:
    """Record that an attempt failed, of errors by rank; and that the trial did, where another attempt is of no use.

    Raises:
        SupersededError: another submission has taken over.
        UserError: there is no room for it.
    """
    folder, limit = Path(job["folder"]), job["trial"]["max_failures"] + 1
    records = read_journal(folder / "journal.jsonl")
    free = any(_taken_away(error) for error in failures.values()) or "preempted" in _newest_attempt(records)
    if free and records and records[-1]["event"] == "attempt_failed":
        return  # Ray tells of a node that was taken away until all of its workers have ended
    error, reason = root_cause(failures)
    told = {"event": "attempt_failed", "reason": reason, "charged": not free, "died": _dead(error), "of": limit}
    told["attempt"] = _charged([*records, told]) - job["charged"]
    fence = fence_of(job).attempt(folder)
    time.sleep(SETTLE_SECONDS)
    journal = Journal(folder / "journal.jsonl", fence)
    journal.append(**told)
    journal.close()
    again = in_a_row(read_journal(folder / "journal.jsonl"))
    if again >= (SAME_IN_CODE if isinstance(error, IN_CODE) else SAME):
        details = "\n\n".join(
            "\n".join([f"rank {rank}: {type(failure).__name__}: {failure}", *getattr(failure, "__notes__", ())])
            for rank, failure in failures.items()
        )
        record_failure(job, f"{reason}, {again} times before the first step of an attempt", details)


def in_a_row(records: Sequence[Record]) -> int:
    """How many failed attempts in a row had the newest one's reason and took no step; 0 if a process died in it."""
    count, reason = 0, None
    for record in reversed(records):
        if record["event"] in ("step", "queued"):  # a new submission may run mended code
            break
        if record["event"] == "attempt_failed":
            if record["died"] or not record["charged"] or reason not in (None, record["reason"]):
                break
            count, reason = count + 1, record["reason"]
    return count


def given_up(folder: Path) -> str | None:
    """Why the trial has failed for good in this submission, None if it has not (protocol 4)."""
    records = read_journal(folder / "journal.jsonl")
    return str(records[-1]["reason"]) if records and records[-1]["event"] == "failed" else None


def record_failure(job: dict[str, Any], reason: str, detail: str) -> None:
    """Write the failure of a trial whose workers were given up: the reason into its journal, the rest beside it.

    Raises:
        UserError: there is no room for it; the next submission finds a trial that did not end.
    """
    folder = Path(job["folder"])
    journal = Journal(folder / "journal.jsonl", fence_of(job).attempt(folder))
    journal.append("failed", reason=f"{reason} (more in {folder / 'failure.txt'})")
    journal.close()
    with suppress(OSError):  # the disk may have taken the line and take no more
        (folder / "failure.txt").write_text(detail)


def root_cause(failures: Mapping[int, BaseException]) -> tuple[BaseException, str]:
    """The exception that the others follow from, and in one line what a person would look for in the logs."""
    for rank, error in failures.items():  # what other ranks say of it follows from it, what Ray says is a paragraph
        if _dead(error):
            return error, f"the process of training worker {rank} died: killed, out of memory, or crashed"
    # a rank whose collective lost another rank says so by one of these
    own = [error for error in failures.values() if not isinstance(error, RuntimeError | ConnectionError)]
    first = (own or [*failures.values()])[0]
    return first, one_line(first)


def one_line(error: BaseException) -> str:
    """The kind of an error and the first line of what it says; of one of ours, which says all, only that line."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    kind = type(error).__name__
    if isinstance(error, UserError) and said:
        return said
    return f"{kind}: {said}" if said else kind


def fence_of(job: dict[str, Any]) -> Fence:
    """That of the submission which runs the trial."""
    return Fence(Path(job["fence"]["lock"]), job["fence"]["token"])


def _newest_attempt(records: Sequence[Record]) -> set[str]:
    """The events of the newest attempt, as far as it said that it began."""
    events = set()
    for record in reversed(records):
        if record["event"] == "attempt_failed":
            break
        events.add(str(record["event"]))
        if record["event"] == "started":
            break
    return events


def _dead(error: BaseException) -> bool:
    return isinstance(getattr(error, "health_check_failure", error), RayActorError)


def _taken_away(error: BaseException) -> bool:
    """Whether a worker died because its node was taken away, as far as Ray knows."""
    cause = getattr(error, "health_check_failure", error)
    return isinstance(cause, RayActorError) and cause.preempted
