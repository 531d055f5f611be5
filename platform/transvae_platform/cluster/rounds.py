"""The rounds of a calibration: all rates of a size to a step, then the worse ones end and the others go on.

A trial that waits for its rivals holds no device: it pauses with a checkpoint, from which the next round continues it
bit for bit. Any other study is one round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transvae_platform.study.calibration import slower_rates
from transvae_platform.study.grid import Trial
from transvae_platform.study.journal import Journal
from transvae_platform.study.lease import Fence
from transvae_platform.study.rate_rules import Calibration
from transvae_platform.study.state import StudyState, TrialState

Run = Callable[[Sequence[Trial], int | None], None]
"""Runs trials to their end or to a step."""


def run_rounds(
    calibration: Calibration | None, trials: Sequence[Trial], state: StudyState, fence: Fence, run: Run
) -> None:
    """Run trials to their end, ending early what `study/calibration.py` says; journals tell what came of them."""
    for step in calibration.stop_at if calibration else ():
        _run(trials, state, run, step)
        assert calibration is not None
        _stop(slower_rates(state, step, calibration.keep), state, fence)
    _run(trials, state, run, None)
    if calibration:  # a rate that is too high is an answer: nothing is left to do
        lost = [trial for trial in state.in_state("failed") if trial.diverged]
        _stop([(trial, str(trial.reason)) for trial in lost], state, fence)


def _stop(ending: Sequence[tuple[TrialState, str]], state: StudyState, fence: Fence) -> None:
    for trial, reason in ending:
        own = Journal(trial.folder / "journal.jsonl", fence)
        own.append("stopped", step=trial.step, reason=reason)
        own.close()
    state.refresh()


def _run(trials: Sequence[Trial], state: StudyState, run: Run, until: int | None) -> None:
    """Those that are open and have not come so far."""
    known = [(trial, state.trials[trial.id]) for trial in trials]
    left = [trial for trial, at in known if at.state in ("queued", "running") and (until is None or at.step < until)]
    if left:
        run(left, until)
    state.refresh()
