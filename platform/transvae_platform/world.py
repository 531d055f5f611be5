"""The processes that train one trial together, as the loop sees them: alone here, Ray Train's workers in `cluster/`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


def _same(module: nn.Module) -> nn.Module:
    return module


def _never() -> None:
    return None


@dataclass(frozen=True)
class Notice:
    """Nodes that this trial runs on are about to be taken away."""

    nodes: tuple[str, ...]
    deadline: float | None
    """When, in seconds since the epoch; None if nobody said."""


def _unasked() -> bool:
    return False


@dataclass(frozen=True)
class World:
    """Rank 0 of 1 by default: the loop runs in this process, on this device, without Ray."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    wrap: Callable[[nn.Module], nn.Module] = _same
    """Makes a module's gradients the mean over all processes (DistributedDataParallel)."""
    notice: Callable[[], Notice | None] = _never
    """Whether nodes are about to be taken away; a collective: all processes must ask equally often."""
    stop: Callable[[], bool] = _unasked
    """Whether this process sees a wish that the study stops; others may see it earlier or later."""

    @property
    def name(self) -> str:
        """What the device is called: the GPU's model, or `cpu`."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type

    def sum(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self.size > 1:
            torch.distributed.all_reduce(values)
        return values
