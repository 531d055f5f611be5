"""Finished trials become versions of registered models, which the study's journal remembers.

`one` may be called while the study runs, `every` at its end: a trial that is registered already is looked for, not
registered twice (`tracking/registry.py`), for the server may have lost it.
"""

from __future__ import annotations

from collections.abc import Callable

from transvae_platform.errors import UnreachableError, UserError
from transvae_platform.study.journal import Journal
from transvae_platform.study.state import StudyState, TrialState
from transvae_platform.tracking.registry import register_best
from transvae_platform.tracking.runs import Tracker
from transvae_platform.tracking.server import answering


class Registrar:
    """Registers the trials of one study. Whoever calls it holds the lock of `state`, `tracker` and `journal`."""

    def __init__(self, state: StudyState, tracker: Tracker, journal: Journal, say: Callable[[str], None]) -> None:
        self._state, self._tracker, self._journal, self._say = state, tracker, journal, say

    def every(self) -> None:
        """All finished trials. A server that is silent is told of in the journal.

        Raises:
            UnreachableError: it fell silent meanwhile.
        """
        self._say("sending the last records to MLflow")
        if self._sent():
            for trial in self._state.in_state(
                "finished"
            ):  # also those registered before: the server may have lost them
                self._say(f"registering {trial.trial.label}")
                self._register(trial)
        self._state.refresh()

    def one(self, trial: TrialState) -> bool:
        """A finished trial; whether it is registered now."""
        try:
            if self._sent():
                self._register(trial)
        except UnreachableError as error:
            self._journal.append("not_tracked", reason=str(error))
        self._tracker.take(self._state.refresh())
        return trial.registered is not None and trial.unregistered is None

    def _sent(self) -> bool:
        if self._tracker.send(now=True):
            return True
        self._journal.append("not_tracked", reason=self._tracker.problem)
        self._say(f"{self._tracker.problem} - submit again to send them")
        return False

    def _register(self, trial: TrialState) -> None:
        tracker = self._tracker
        try:
            with answering(tracker.client):
                version = register_best(tracker.client, tracker.experiment_id, tracker.run_id(trial), trial)
        except UnreachableError:
            raise
        except UserError as error:  # this one may not be promoted; the others are
            if trial.unregistered != str(error):
                self._journal.append("not_registered", trial=trial.trial.id, reason=str(error))
            return
        if trial.registered is None or trial.unregistered or version.items() - trial.registered.items():
            self._journal.append("registered", trial=trial.trial.id, **version)
