"""The ranks of a trial as processes that speak over gloo, forked from this one: importing torch is paid once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from transvae_platform.world import World

DEADLINE_SECONDS = 600.0  # ends a hang, judges no speed
PEERS_SECONDS = 5.0  # for the others to notice that a rank is gone
FORK = multiprocessing.get_context("fork")


class RankDiedError(Exception):
    """A rank was killed; the others were ended."""


def as_ranks(size: int, folder: Path, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call `work(world, *arguments)` on every rank; returns what each of them returned.

    Raises:
        RankDiedError: one was killed by a signal.
        AssertionError: with the traceback of what one of them raised.
    """
    folder.mkdir(parents=True, exist_ok=True)
    meeting = folder / "meeting"
    meeting.unlink(missing_ok=True)
    pipes = [FORK.Pipe(duplex=False) for _ in range(size)]
    ranks = [
        FORK.Process(target=_run, args=(rank, size, meeting, pipes[rank][1], work, arguments)) for rank in range(size)
    ]
    for rank in ranks:
        rank.start()
    for _, writing in pipes:
        writing.close()
    try:
        results, errors = _collect([reading for reading, _ in pipes])
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()
    if None in errors.values():
        raise RankDiedError
    assert not errors, "\n".join(map(str, errors.values()))
    return [results[rank] for rank in range(size)]


def kill_me() -> None:
    """End this process as the kernel ends one that takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def _run(
    rank: int, size: int, meeting: Path, told: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    world = World(rank, size, wrap=DistributedDataParallel) if size > 1 else World()
    try:
        told.send((work(world, *arguments), None))
    except Exception:  # noqa: BLE001 - handed to the test
        told.send((None, traceback.format_exc()))
    told.close()
    os._exit(0)  # nothing of the test's own process is to be wound up here


def _collect(readings: list[Connection]) -> tuple[dict[int, Any], dict[int, str | None]]:
    """Results, and errors (None: it died without a word), by rank; ends soon after the first error."""
    results: dict[int, Any] = {}
    errors: dict[int, str | None] = {}
    end = time.monotonic() + DEADLINE_SECONDS
    while len(results | errors) < len(readings):
        left = [reading for rank, reading in enumerate(readings) if rank not in results | errors]
        ready = wait(left, end - time.monotonic())
        if not ready:
            assert errors, "a rank hangs"
            break
        for reading in ready:
            assert isinstance(reading, Connection)
            rank = readings.index(reading)
            try:
                results[rank], error = reading.recv()
                if error is not None:
                    errors[rank] = error
            except EOFError:
                errors[rank] = None
        if errors:
            end = min(end, time.monotonic() + PEERS_SECONDS)
    return results, errors
