"""What MLflow says of studies' models, asked in a thread of its own: it takes seconds to load, and may hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

AGAIN = 30.0
"""Seconds after which an answer is asked for anew, when somebody looks."""
PATIENCE = 10.0
"""Seconds that a page to be taken away waits for an answer: loading MLflow takes some (assumption)."""
WAITING = "MLflow is being asked for aliases, lineage and promotions: this takes a few seconds."
Ask = Callable[[str, Path], "list[dict[str, Any]] | str"]


def ask_mlflow(study: str, home: Path, tracking_uri: str | None = None) -> list[dict[str, Any]] | str:
    """What the server, by default the store of the home, holds of a study."""
    from transvae_platform.tracking.browse import try_versions

    return try_versions(study, home, tracking_uri)


class Registries:
    """The last answer about each study, and the threads that fetch the next."""

    def __init__(self, home: Path, ask: Ask = ask_mlflow, clock: Callable[[], float] = time.monotonic) -> None:
        self._home, self._ask, self._clock = home, ask, clock
        self._answers: dict[str, list[dict[str, Any]] | str] = {}
        self._at: dict[str, float] = {}
        self._versions: dict[str, int] = {}
        self._asking: dict[str, threading.Thread] = {}
        self._turn = threading.Lock()

    def ask(self, study: str) -> list[dict[str, Any]] | str:
        """The newest answer there is; starts asking for a newer one where it is old."""
        with self._turn:
            old = self._clock() - self._at.get(study, float("-inf")) > AGAIN
            if old and study not in self._asking:
                self._asking[study] = threading.Thread(target=self._fetch, args=(study,), daemon=True)
                self._asking[study].start()
            return self._answers.get(study, WAITING)

    def settle(self, study: str, seconds: float = PATIENCE) -> None:
        """Ask, and wait for the answer to come."""
        self.ask(study)
        if (asking := self._asking.get(study)) is not None:
            asking.join(seconds)

    def waits(self, study: str) -> bool:
        """Whether an answer is on its way."""
        return study in self._asking

    def version(self, study: str) -> int:
        """Raised whenever an answer differs from the one before."""
        return self._versions.get(study, 0)

    def _fetch(self, study: str) -> None:
        answer: list[dict[str, Any]] | str = "MLflow could not be asked."
        try:
            answer = self._ask(study, self._home)
        finally:
            with self._turn:
                if answer != self._answers.get(study):
                    self._versions[study] = self._versions.get(study, 0) + 1
                self._answers[study], self._at[study] = answer, self._clock()
                self._asking.pop(study, None)
