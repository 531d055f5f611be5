"""One progress bar with the time left, for work of one kind; a line now and then where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY_SECONDS = 15.0


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress on stderr; yields the function to call with (done, total)."""
    console = Console(stderr=True, file=sys.stderr)
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(30), TaskProgressColumn(), TextColumn("{task.fields[counts]}"),
        TimeElapsedColumn(), TextColumn("left:"), TimeRemainingColumn(),
        console=console, disable=not console.is_terminal,
    )  # fmt: skip
    task = progress.add_task(what, total=None, counts="")
    next_line = time.monotonic()
    begun: tuple[float, int] | None = None

    def listen(done: int, total: int) -> None:
        nonlocal next_line, begun
        progress.update(task, completed=done, total=total, counts=f"{done:,} / {total:,}")
        now = time.monotonic()
        begun = begun or (now, done)  # what an earlier run did says nothing of this one's pace
        if not console.is_terminal and (now >= next_line or done == total):
            next_line = now + LINE_EVERY_SECONDS
            pace = (now - begun[0]) / (done - begun[1]) if done > begun[1] else None  # seconds per item
            left = f", about {pace * (total - done):.0f} s left" if pace is not None and done < total else ""
            console.print(
                f"[{time.strftime('%H:%M:%S')}] {what}: {done:,} of {total:,}{left}", markup=False, highlight=False
            )

    with progress:
        yield listen
