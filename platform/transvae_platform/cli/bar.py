"""One progress bar with the time left, for work of one kind; a line now and then where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

LINE_EVERY_SECONDS = 15.0


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress on stderr; yields the function to call with (done, total), first of all with what was done before.

    The time left is told from the pace since the first finished piece: neither what an earlier run did nor the start
    of Ray say anything of it.
    """
    # whether it is a terminal is asked once: descriptor 2 may be a pipe to the terminal for a while
    console = Console(stderr=True, file=sys.stderr, force_terminal=sys.stderr.isatty())
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(30), TaskProgressColumn(), TextColumn("{task.fields[counts]}"),
        TimeElapsedColumn(), TextColumn("{task.fields[left]}"),
        console=console, disable=not console.is_terminal,
    )  # fmt: skip
    task = progress.add_task(what, total=None, counts="", left="")
    next_line = time.monotonic()
    before: int | None = None
    begun: tuple[float, int] | None = None

    def listen(done: int, total: int) -> None:
        nonlocal next_line, before, begun
        now = time.monotonic()
        if before is None:
            before = done
        elif begun is None and done > before:
            begun = (now, done)
        left = _left(begun, now, done, total)
        progress.update(task, completed=done, total=total, counts=f"{done:,} / {total:,}", left=left)
        if not console.is_terminal and (now >= next_line or done == total):
            next_line = now + LINE_EVERY_SECONDS
            text = f"[{time.strftime('%H:%M:%S')}] {what}: {done:,} of {total:,}{', ' if left else ''}{left}"
            console.print(text, markup=False, highlight=False)

    with progress:
        yield listen


def _left(begun: tuple[float, int] | None, now: float, done: int, total: int) -> str:
    """`about 1:02:03 left`, or nothing where no pace is known."""
    if begun is None or done <= begun[1] or done >= total:
        return ""
    seconds = (now - begun[0]) / (done - begun[1]) * (total - done)
    return f"about {timedelta(seconds=round(seconds))} left"
