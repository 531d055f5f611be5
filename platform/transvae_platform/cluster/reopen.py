"""Finished trials whose result is lost.

A finished trial's result is its best checkpoint, which the registry takes. Where that is damaged:
1. The registry may have it already, in whole files, or the second copy of its weights is whole
   (`training/checkpoint.py`, 6): then nothing is lost.
2. If no good checkpoint of the last step is left, the trial is not finished: the next submission continues it from its
   newest good checkpoint, through the same steps to the same bytes.
3. If the last step is there, training has nowhere to go on to. The next best checkpoint that was validated becomes the
   result, and its version says instead of which (`tracking/registry.py`).
4. Where a store does not give its checkpoints, nothing is decided: the trial stays as it is until it does.
"""

from __future__ import annotations

from collections.abc import Iterable

from transvae_platform.study.journal import Journal
from transvae_platform.study.lease import Fence
from transvae_platform.study.state import TrialState
from transvae_platform.training.checkpoint import open_checkpoints
from transvae_platform.training.recorded import recorded_checkpoints


def reopen_lost(trials: Iterable[TrialState], fence: Fence) -> None:
    """Queue finished trials again that could not be registered, if their last checkpoint is gone (2)."""
    for trial in trials:
        if trial.state != "finished" or trial.unregistered is None:
            continue
        bad: list[str] = []

        def on_bad(_: int, message: str, bad: list[str] = bad) -> None:
            bad.append(message)

        recorded = recorded_checkpoints(trial.folder)
        try:
            with open_checkpoints(trial.trial, trial.folder, fence, on_bad, recorded).newest_good() as found:
                step = found[0] if found else 0
        except OSError:  # registering tells why
            continue
        if bad or step < trial.trial.recipe.steps:
            journal = Journal(trial.folder / "journal.jsonl", fence)
            for message in bad:
                journal.append("damaged", message=message)
            if step < trial.trial.recipe.steps:
                journal.append("queued")
            journal.close()
