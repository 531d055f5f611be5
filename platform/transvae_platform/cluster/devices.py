"""What this machine has to run on, and whether that is enough. No Ray: asked before it starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from transvae_platform.errors import SpecError
from transvae_platform.study.trial import Trial

GPU_FILES = ("nvidia[0-9]*", "dxg", "kfd")
"""In /dev, of a driver for CUDA, CUDA below Windows, or ROCm: where there is none, torch need not be asked."""


def local_devices() -> tuple[int, int]:
    """(CPU cores this process may use, CUDA devices) of this machine."""
    cores = len(os.sched_getaffinity(0))
    if not _has_driver():
        return cores, 0
    import torch

    return cores, torch.cuda.device_count()


def local_gpu_bytes() -> int | None:
    """Memory of this machine's smallest GPU; None without one."""
    if not _has_driver():
        return None
    import torch

    sizes = [torch.cuda.get_device_properties(index).total_memory for index in range(torch.cuda.device_count())]
    return min(sizes, default=None)


def _has_driver() -> bool:
    return any(any(Path("/dev").glob(pattern)) for pattern in GPU_FILES)


def check_devices(trials: Sequence[Trial], cpus: int, gpus: int, where: str) -> None:
    """Refuse a grid that asks for more devices than there are, before anything starts.

    Raises:
        SpecError: names the trial, what it asks for and what there is.
    """
    have = {"cpu": cpus, "gpu": gpus}
    for trial in trials:
        asked, device = trial.workers.workers, trial.workers.device
        if asked > have[device]:
            kind = {"cpu": "CPU core", "gpu": "GPU"}[device]
            raise SpecError(
                f"resources: {trial.label} asks for {asked} {kind}{'s' * (asked > 1)}, but {where} has "
                f"{have[device]} - lower `resources.workers`, change `resources.device`, or submit to a larger cluster"
            )
