"""The mapper of studies: Ray Data spreads pieces of work over a cluster (with `cluster/`, the only importer of Ray)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import ray.data

from transvae_platform.data.making.stderr import without_lines
from transvae_platform.data.making.work import Function, Work
from transvae_platform.errors import UserError

RESTART_WARNING = rb"core_worker\.cc.* has constructor arguments in the object store and max_restarts > 0"
"""Ray's core writes this to stderr, past every log level, for each pool of actors of Ray Data: Ray Data itself hands
them its context and the function in the object store (`ActorPoolMapOperator._start_actor`, 2.60), where this process
keeps both until the end. Without restarts there would be no line, but a lost process would end the work."""


def run_on_ray(function: Function, work: Sequence[Work], actors: int | None = None, gpus: float = 0) -> Iterable[Work]:
    """Apply a function to every piece of work on the cluster; gives the pieces back as they are done.

    Args:
        actors: a pool of at most this many processes that stay, for functions that load a model; by default tasks.
        gpus: share of a GPU per process.

    Raises:
        UserError: as the function raised it in another process.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # the command line has one progress display of its own
    context.execution_no_progress_timeout_s = -1  # a busy CPU may measure a shard for longer than 1800 s
    # rows travel as JSON text: nested lists of mixed types have no Arrow type
    rows = [{"work": json.dumps(piece)} for piece in work]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    if actors is None:
        done = dataset.map(lambda row: _call(function, row), num_gpus=gpus)
        return map(_done, done.iter_rows())
    pool = ray.data.ActorPoolStrategy(size=min(actors, len(rows)))  # more would have nothing to do, and Ray says so
    done = dataset.map(_Caller, fn_args=(function,), compute=pool, num_gpus=gpus)
    return map(_done, _started_quietly(done.iter_rows()))


def _started_quietly(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows of an execution on actors, which are made before the first one comes."""
    ahead = iter(rows)
    with without_lines(RESTART_WARNING):
        first = next(ahead, None)
    if first is not None:
        yield first
    yield from ahead


class _Caller:
    """A process that stays: Ray makes actors of classes only."""

    def __call__(self, row: dict[str, str], function: Function) -> dict[str, str]:
        return _call(function, row)


def _call(function: Function, row: dict[str, str]) -> dict[str, str]:
    """The row, with what the user can mend: as an exception it would come back as pages of Ray's own."""
    try:
        function(json.loads(row["work"]))
    except UserError as error:
        return {**row, "error": str(error)}
    return {**row, "error": ""}


def _done(row: dict[str, str]) -> Work:
    if row["error"]:
        raise UserError(row["error"])
    work: Work = json.loads(row["work"])
    return work
