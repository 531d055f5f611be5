"""Where a data command's pieces of work run: on a Ray that starts with the first of them.

So whatever is wrong before there is work (a name, a model, a folder) is told at once, and a data set that is made
already costs no start of Ray.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from transvae_platform.cluster.devices import local_devices
from transvae_platform.data.making.work import Function, Mapper, Work
from transvae_platform.errors import SpecError


@contextmanager
def ray_mapper(address: str | None, *, models: bool = False, gpus: int = 0) -> Iterator[Mapper]:
    """A mapper onto the cluster at `address`, or onto this machine; its Ray ends with the block.

    Args:
        models: for work that loads a model: processes that stay, one per GPU or core, instead of tasks.
        gpus: how many of those processes get a GPU each; 0: cores.

    Raises:
        SpecError: there are fewer GPUs, or no cores (of a cluster it is known once it is reached).
        UnreachableError: Ray cannot be started or reached (when the first piece of work comes).
    """
    processes = _processes(gpus, local_devices(), "this machine") if models and address is None else None
    with ExitStack() as session:
        started = False

        def mapper(function: Function, work: Sequence[Work]) -> Iterable[Work]:
            nonlocal started, processes
            from transvae_platform.cluster.schedule import cluster_devices, ray_session
            from transvae_platform.data.making.on_ray import run_on_ray

            if not started:
                session.enter_context(ray_session(address))
                started = True
            if models and processes is None:
                processes = _processes(gpus, cluster_devices(), f"the cluster at {address}")
            return run_on_ray(function, work, processes, 1 if gpus else 0)

        yield mapper


def _processes(gpus: int, there: tuple[int, int], where: str) -> int:
    cpus, most = there
    if gpus > most:
        raise SpecError(f"--gpus: {gpus} are asked for, {where} has {most} - lower it, or 0 for CPU cores")
    if not gpus and not cpus:
        raise SpecError(f"--gpus: {where} declares no CPU slots, only {most} GPUs - say how many of them")
    return gpus or cpus
