"""What the ranks of a trial tell each other from the thread that saves.

They use a process group of their own (gloo): collectives of two threads on one group would be mixed up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pyarrow as pa
import torch.distributed as dist
from safetensors import SafetensorError

from transvae_platform.data.sets.stores import first_line

T = TypeVar("T")

TROUBLE = (OSError, RuntimeError, SafetensorError, pa.ArrowException)
"""What a full, read-only or unreachable disk or store makes torch, safetensors and pyarrow raise."""


class SaveError(Exception):
    """A checkpoint could not be written; the message is the reason, the same on all ranks."""


class Ranks:
    """All ranks of a trial; every method is called by all of them, in the same order."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self.group = dist.new_group(backend="gloo") if size > 1 else None

    def share(self, value: T) -> list[T]:
        """Every rank's value, by rank."""
        if self.group is None:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def together(self, work: Callable[[], T]) -> list[T]:
        """Do something on every rank; returns what each of them got.

        Raises:
            SaveError: on all ranks, if one of them met a `TROUBLE`. Any other error is raised where it happened.
        """
        from torch.distributed.checkpoint.api import CheckpointException  # 1 s to import, and submissions save nothing

        result: T | None = None
        failed: BaseException | None = None
        try:
            result = work()
        except (Exception, CheckpointException) as error:  # noqa: BLE001 - the others must not wait for this rank
            # DCP wraps what happened on any rank, and is no Exception itself
            failed = next(iter(error.failures.values()))[0] if isinstance(error, CheckpointException) else error
        told = self.share((result, reason(failed) if failed else None))
        if failed is not None and not isinstance(failed, TROUBLE):
            raise failed
        for _, problem in told:
            if problem is not None:
                raise SaveError(problem) from failed
        return [value for value, _ in told]  # type: ignore[misc]  # no problem, so all of them are results


def reason(error: BaseException) -> str:
    """Why something failed, in one line."""
    return first_line(error) if isinstance(error, OSError) else f"{type(error).__name__}: {first_line(error)}"
