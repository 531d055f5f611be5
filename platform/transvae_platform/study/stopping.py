"""A wish that a running study stops: written by whoever wants it, heeded by its submission and by its trials.

Protocol
1. The file `stop` in the study's folder holds the token of the submission that shall stop (`lease.py`, 5). A later
   submission has another token, so nobody need remove the file, and a wish never meets the wrong one.
2. The submission that is meant starts no trial any more (`cluster/queue.py`).
3. The ranks of a running trial look for the wish at the steps at which they ask for notices (`training/preemption.py`)
   and agree: if one sees it, all save a checkpoint, and the trial pauses (`paused`), from where a later submission
   continues it bit for bit. In a bad stretch (`training/guard.py`, 3) they go on until it is over.
4. A trial that has no nodes yet is not reached: its driver waits for them. Who stopped waiting for the study ends its
   process; what was saved is kept.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from transvae_platform.errors import UnreachableError, UserError
from transvae_platform.study.lease import BEAT_SECONDS, Fence, life, read_holder

WISH = "stop"


def asked_to_stop(fence: Fence) -> bool:
    """Whether somebody wants the submission of a fence to stop."""
    try:
        return (fence.lock.parent / WISH).read_text() == fence.token
    except OSError:
        return False


def ask_to_stop(folder: Path) -> str:
    """Wish that the process which runs the study in a folder stops; returns who that is.

    Raises:
        UserError: nobody runs it.
        UnreachableError: the folder cannot be written.
    """
    holder = read_holder(folder)
    if holder is None or life(folder) is None:
        raise UserError(f"no process runs study {folder.name!r}: there is nothing to stop")
    written = folder / f".{WISH}.{os.getpid()}"
    try:
        written.write_text(holder.token)
        written.replace(folder / WISH)
    except OSError as error:
        raise UnreachableError(f"{folder} cannot be written ({error.strerror or error}) - make room") from None
    return f"process {holder.pid} on {holder.host}"


def wait_until_stopped(folder: Path, patience: float, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Whether the study's process ended within so many seconds."""
    end = time.monotonic() + patience
    while life(folder) is not None:
        if time.monotonic() > end:
            return False
        sleep(BEAT_SECONDS)
    return True
