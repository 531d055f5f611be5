"""The rounds of a calibration: all rates of a size to a step, then the worse ones end and the others go on.

Protocol
1. A round takes every open trial to the next of `calibration.stop_at`, where it pauses with a checkpoint, from which a
   later round continues it bit for bit. A trial that waits for its rivals holds no device. The last round goes to the
   end; a study without a calibration has that one only.
2. A rate at which training broke down has ended: that is its answer, and no submission tries it again.
3. After a round each size is decided of which every rate stands at the step or has ended (`study/calibration.py`).
4. A size with a rate that failed otherwise is not decided, and none of its rates goes on: the next submission tries the
   failed one again, and decides as if nothing had happened.
5. A trial whose journal is damaged runs again although it stands at the step: it tells what was lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transvae_platform.study.calibration import slower_rates, undecided
from transvae_platform.study.journal import Journal
from transvae_platform.study.lease import Fence
from transvae_platform.study.rate_rules import Calibration
from transvae_platform.study.state import StudyState, TrialState
from transvae_platform.study.trial import Trial

Run = Callable[[Sequence[Trial], int | None], None]
"""Runs trials to their end or to a step."""


def run_rounds(
    calibration: Calibration | None, trials: Sequence[Trial], state: StudyState, fence: Fence, run: Run,
    refresh: Callable[[], object],
) -> None:  # fmt: skip
    """Run trials to their end, ending early what `study/calibration.py` says; journals tell what came of them.

    Args:
        refresh: brings `state` to what the journals say now.
    """
    if calibration is None:
        _run(trials, state, run, None)
        refresh()
        return
    held: set[str] = set()
    for step in calibration.stop_at:
        _run([trial for trial in trials if trial.id not in held], state, run, step)
        refresh()
        _stop(_broken(state), fence)
        refresh()
        held |= undecided(state, step)
        _stop(slower_rates(state, step, calibration.keep), fence)
        refresh()
    _run([trial for trial in trials if trial.id not in held], state, run, None)
    refresh()
    _stop(_broken(state), fence)
    refresh()


def _broken(state: StudyState) -> list[tuple[TrialState, str]]:
    return [(trial, str(trial.reason)) for trial in state.in_state("failed") if trial.diverged]


def _stop(ending: Sequence[tuple[TrialState, str]], fence: Fence) -> None:
    for trial, reason in ending:
        own = Journal(trial.folder / "journal.jsonl", fence)
        own.append("stopped", step=trial.step, reason=reason)
        own.close()


def _run(trials: Sequence[Trial], state: StudyState, run: Run, until: int | None) -> None:
    """Those that are open and have not come so far, or whose journals do not tell what they found."""
    known = [(trial, state.trials[trial.id]) for trial in trials]
    left = [
        trial
        for trial, at in known
        if at.state in ("queued", "running") and (until is None or at.step < until or at.doubtful)
    ]
    if left:
        run(left, until)
