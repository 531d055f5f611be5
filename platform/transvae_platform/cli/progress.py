"""The one live view of a running study: what each trial does, how far the study is, when it will be done.

On a terminal a live table; elsewhere (logs, pipes) a line now and then. Everything goes to stderr, results to stdout.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from transvae_platform.study.plan import Plan
from transvae_platform.study.record import Record
from transvae_platform.study.state import OVER, StudyState, TrialState

COLOURS = {"running": "cyan", "finished": "green", "failed": "red", "stopped": "yellow", "queued": "dim"}
LINE_EVERY_SECONDS = 15.0  # without a terminal: often enough to see that it lives, rare enough for a log


class StudyProgress:
    """Shows a study's progress while it runs; use as a context manager and pass `listen` to `submit_study`."""

    def __init__(self, plan: Plan) -> None:
        self._console = Console(stderr=True, file=sys.stderr)
        self._expected = {row.trial.cell: row.seconds for row in plan.rows}
        self._wall_seconds = plan.wall_seconds
        self._started = time.monotonic()
        self._done_before: float | None = None
        self._next_line = 0.0
        self._stage = "checking"
        self._told: set[tuple[str, float]] | None = None
        """Failed attempts that were told or are older than this view: the trial's id, and when."""
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[eta]}"),
            console=self._console,
        )
        self._task = self._bar.add_task("", total=1.0, eta="")
        self._live = Live(self._bar, console=self._console, refresh_per_second=1, transient=True)

    def __enter__(self) -> StudyProgress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def stage(self, stage: str) -> None:
        """Name the stage the study is in (shown at once)."""
        if stage != self._stage:
            self._stage, self._next_line = stage, 0.0
        self._bar.update(self._task, description=stage)
        self._print_line(stage)

    def listen(self, state: StudyState, stage: str) -> None:
        """Take the study's state and the stage; called every two seconds."""
        self._tell_failures(state)
        done = self._done_share(state)
        eta = self._eta(done)
        if stage != self._stage:
            self._stage, self._next_line = stage, 0.0
        self._bar.update(self._task, description=stage, completed=done, eta=eta)
        self._live.update(Group(_table(state), self._bar) if state.trials else self._bar)
        running = ", ".join(
            f"{trial.trial.label} {trial.step}/{trial.trial.recipe.steps}" for trial in state.in_state("running")
        )
        counts = f"{sum(len(state.in_state(over)) for over in OVER)}/{len(self._expected)} trials done"
        if failed := len(state.in_state("failed")):
            counts += f", {failed} failed"
        self._print_line(f"{stage}: {counts}{f', running {running}' if running else ''} {eta}".rstrip())

    def _tell_failures(self, state: StudyState) -> None:
        """A line for every attempt that has failed since the last call."""
        found = [(trial, record) for trial in state.trials.values() for record in trial.broken]
        keys = {(trial.trial.id, record["at"]) for trial, record in found}
        told, self._told = keys if self._told is None else self._told, keys
        for trial, record in found:
            if (trial.trial.id, record["at"]) not in told:
                self._say(f"{name_of(trial)}: {failed_attempt(record)}")

    def _print_line(self, text: str) -> None:
        if self._console.is_terminal or time.monotonic() < self._next_line:
            return
        self._next_line = time.monotonic() + LINE_EVERY_SECONDS
        self._say(text)

    def _say(self, text: str) -> None:
        self._console.print(f"[{time.strftime('%H:%M:%S')}] {text}", markup=False, highlight=False, soft_wrap=True)

    def _done_share(self, state: StudyState) -> float:
        """Finished work over all work, in the plan's seconds, so that large trials count for more."""
        total = sum(self._expected.values())
        done = 0.0
        trials = {trial.trial.cell: trial for trial in state.trials.values()}
        for cell, seconds in self._expected.items():
            trial = trials.get(cell)
            if trial is None:
                continue
            done += seconds if trial.state in (*OVER, "failed") else seconds * trial.step / trial.trial.recipe.steps
        return done / total if total else 1.0

    def _eta(self, done: float) -> str:
        elapsed = time.monotonic() - self._started
        if self._done_before is None:
            self._done_before = done  # by earlier submissions
        gained = done - self._done_before
        # the plan's estimate until a tenth of the rest is done, then what was measured
        measured = gained > 0.1 * (1 - self._done_before)
        left = elapsed * (1 - done) / gained if measured else max(0.0, self._wall_seconds - elapsed)
        return f"about {format_seconds(left)} left" if done < 1 and left > 5 else ""


def format_seconds(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`, `12 d`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.0f} d"


def failed_attempt(record: Record) -> str:
    """`attempt 2 of 3 failed: ...` of a record `attempt_failed`."""
    which = f"attempt {record['attempt']} of {record['of']} failed"
    return f"{which if record['charged'] else 'an attempt failed, which is not charged'}: {record['reason']}"


def name_of(trial: TrialState) -> str:
    """`transvae-T s1`: the short name of a trial, with its seed where that is not 0."""
    return trial.trial.label + (f" s{trial.trial.seed}" if trial.trial.seed else "")


def quality(metrics: Mapping[str, float | None]) -> str:
    """The one number of a validation that tells most: PSNR in dB, or of a generator its distance, or its loss."""
    shown = {
        "val/psnr": "{:.2f} dB",
        "val/semantic": "features {:.3g}",
        "val/semantic_random": "random features {:.3g}",
        "val/gfid": "FID {:.2f}",
        "val/gfid_random": "random {:.3g}",
        "val/loss": "loss {:.3f}",
    }
    return next((text.format(metrics[key]) for key, text in shown.items() if metrics.get(key) is not None), "")


def _table(state: StudyState) -> Table:
    table = Table(title=f"study {state.name}", title_justify="left", box=None, pad_edge=False)
    for column in ("trial", "state", "step", "loss", "quality", "s/step"):
        table.add_column(column, justify="left" if column in ("trial", "state") else "right")
    order = {"running": 0, "queued": 1, "failed": 2, "stopped": 3, "finished": 4}
    trials = sorted(state.trials.values(), key=lambda trial: order[trial.state])
    for trial in trials[:24]:  # a grid of the paper fits; larger ones show what runs and what is next
        table.add_row(*_row(trial))
    return table


def _row(trial: TrialState) -> tuple[str, ...]:
    train = trial.train[max(trial.train)] if trial.train else None
    loss = train["metrics"]["train/loss"] if train else None  # null in the journal where it was not finite
    colour = COLOURS[trial.state]
    return (
        name_of(trial),
        f"[{colour}]{trial.state}[/]",
        f"{trial.step}/{trial.trial.recipe.steps}",
        f"{loss:.4f}" if loss is not None else "",
        quality(trial.validation[max(trial.validation)]["metrics"] if trial.validation else {}),
        f"{train['seconds_per_step']:.3f}" if train else "",
    )
