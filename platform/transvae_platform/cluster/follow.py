"""Following a study: the one that runs here, beside Ray's own waiting, or one that another process runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from transvae_platform.errors import DetachedError
from transvae_platform.study.identity import refuse_changed_study
from transvae_platform.study.lease import Holder, Lease, wait_for_lease
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.state import StudyState
from transvae_platform.tracking.runs import Tracker

Listener = Callable[[StudyState, str], None]
"""Told of progress: the study's state and a line about the current stage; called every two seconds."""
FOLLOW_SECONDS = 2.0


class Follower(threading.Thread):
    """Reads the journals while Ray works: progress for the user, records for MLflow."""

    def __init__(
        self, state: StudyState, tracker: Tracker, lease: Lease, listen: Listener, lock: threading.Lock,
        doing: Callable[[], str],
    ) -> None:  # fmt: skip
        """Args:
        lock: held while state and tracker are used.
        doing: what the user is told while nothing is wrong.
        """
        super().__init__(name="follower", daemon=True)
        self._state, self._tracker, self._lease, self._listen = state, tracker, lease, listen
        self._lock, self._doing = lock, doing
        self._end = threading.Event()
        self._error: BaseException | None = None

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *exception: object) -> None:
        self._end.set()
        self.join()
        if self._error is not None:
            raise self._error

    def run(self) -> None:
        try:
            while not self._end.wait(FOLLOW_SECONDS):
                with self._lock:
                    self._tracker.take(self._state.refresh())
                    self._tracker.send()
                    self._listen(self._state, self._lease.problem or self._tracker.problem or self._doing())
        except Exception as error:  # noqa: BLE001 - handed to the main thread, which raises it
            self._error = error


def take_turn(folder: Path, spec: StudySpec, fingerprint: str | None, listen: Listener) -> tuple[Lease, bool]:
    """The study's lease, and whether another process had to be followed to its end before.

    Args:
        fingerprint: of the data set; None while it is not made.

    Raises:
        SpecError: the other process runs another specification.
        DetachedError: Ctrl-C while following; the other process goes on.
    """
    state = StudyState(folder)
    refuse_changed_study(state, spec, fingerprint)
    other: str | None = None

    def follow(holder: Holder | None) -> None:
        nonlocal other
        other = _named(holder)
        state.refresh()
        refuse_changed_study(state, spec, fingerprint)  # the other one may write its specification only now
        listen(state, f"running in {other}, attached to it")

    try:
        lease = wait_for_lease(folder, follow)
    except KeyboardInterrupt:
        if other is None:
            raise
        raise DetachedError(
            f"detached: study {folder.name!r} runs on in {other}; the same command attaches again"
        ) from None
    return lease, other is not None


def _named(holder: Holder | None) -> str:
    if holder is None:
        return "another process"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.since))
    return f"process {holder.pid} on {holder.host} since {since}"
