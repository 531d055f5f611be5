"""Tensors of a checkpoint, written by all ranks and read by any number of them: torch.distributed.checkpoint (DCP).

Stored as safetensors (DCP's `HuggingFaceStorageWriter`), because DCP's own format keeps its index as a pickle: a reader
would have to list the private classes that this pickle may build and follow torch's changes to them. A safetensors file
holds JSON and numbers and can be read without torch. What it cannot hold, numbers and text, stands in `state.json`.

Each tensor has one owner among the ranks, so every rank copies and writes its share only; of a sharded tensor
(`training/sharding.py`) every rank owns the rows that it holds. DCP's writer puts a whole file
together in memory first; ours writes the tensors from where they are (same format, a quarter of the CPU time).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint._hf_utils import CUSTOM_METADATA_KEY, SAVED_OFFSETS_KEY, _gen_file_name
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.checkpoint.storage import WriteResult
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor
from torch.futures import Future

from transvae import storage
from transvae_platform.training.ranks import Ranks

warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # DCP on one rank, at every save


ROOT = "state"
"""Begins the name of every tensor in a file, before a dot."""


class Copies:
    """CPU copies of tensors, in row-major order; the next call writes into the same memory."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def take(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copies of these tensors as they are now; of a sharded one, of what this rank holds, if it holds any."""
        taken: dict[str, Tensor] = {}
        for key, whole in tensors.items():
            tensor = whole.to_local() if isinstance(whole, DTensor) else whole
            buffer = self._buffers.get(key)
            if buffer is None or (buffer.shape, buffer.dtype) != (tensor.shape, tensor.dtype):
                buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._buffers[key] = buffer.copy_(tensor.detach(), non_blocking=True)
            if not isinstance(whole, DTensor):
                taken[key] = buffer
            elif buffer.numel():
                taken[key] = _with_its_place(buffer, whole)
        if any(tensor.is_cuda for tensor in tensors.values()):
            torch.cuda.synchronize()
        return taken


def own_share(tensors: Mapping[str, Tensor], rank: int, size: int) -> dict[str, Tensor]:
    """The tensors that a rank owns: each has one owner, and all own as many bytes; sharded ones are of every rank."""
    loads, owners = [0] * size, {key: rank for key, tensor in tensors.items() if isinstance(tensor, DTensor)}
    for key in sorted(tensors.keys() - owners.keys(), key=lambda key: (-tensors[key].nbytes, key)):
        owners[key] = loads.index(min(loads))
        loads[owners[key]] += tensors[key].nbytes
    return {key: tensor for key, tensor in tensors.items() if owners[key] == rank}


def write_tensors(folder: Path, tensors: Mapping[str, Tensor], ranks: Ranks) -> None:
    """Write this rank's tensors (on the CPU, row-major) into a folder; all ranks call it.

    Raises:
        CheckpointException: on all ranks, if one of them failed.
    """
    save(
        {ROOT: tensors},  # one entry: DCP's bookkeeping costs more per entry than a small tensor does
        storage_writer=_Writer(str(folder), save_distributed=True),
        process_group=ranks.group,
        no_dist=ranks.size == 1,
    )


def read_tensors(folder: Path, like: Callable[[str], Tensor | None] = lambda key: None) -> dict[str, Tensor]:
    """The tensors of a checkpoint, on the CPU, however many ranks wrote them; each rank reads for itself.

    Args:
        like: by key, the tensor that one will be put into; of a sharded one only this rank's part is read.
    """
    reader = HuggingFaceStorageReader(str(folder))
    known = reader.read_metadata().state_dict_metadata
    wanted: dict[str, Tensor] = {}
    for name, entry in known.items():
        assert isinstance(entry, TensorStorageMetadata)
        key = name.removeprefix(f"{ROOT}.")
        target, dtype = like(key), entry.properties.dtype
        if isinstance(target, DTensor):
            wanted[key] = _with_its_place(torch.empty(target.to_local().shape, dtype=dtype), target)
        else:
            wanted[key] = torch.empty(entry.size, dtype=dtype)
    load({ROOT: wanted}, storage_reader=reader, no_dist=True)
    return wanted


def _with_its_place(part: Tensor, whole: DTensor) -> DTensor:
    """A part on the CPU with its place in the whole tensor, which may be on a GPU."""
    mesh = _cpu_mesh(whole.device_mesh.size())
    return DTensor.from_local(part, mesh, whole.placements, run_check=False, shape=whole.shape, stride=whole.stride())


@lru_cache(maxsize=1)
def _cpu_mesh(ranks: int) -> DeviceMesh:
    return init_device_mesh("cpu", (ranks,))


class _Writer(HuggingFaceStorageWriter):
    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        tensors: dict[str, Tensor] = {}
        offsets = {}
        for item in plan.items:
            tensor = planner.resolve_data(item)
            assert isinstance(tensor, Tensor), f"{item.index.fqn} is no tensor: it belongs into state.json"
            assert item.tensor_data is not None
            tensors[item.index.fqn] = tensor
            offsets[item.index.fqn] = {SAVED_OFFSETS_KEY: list(item.tensor_data.chunk.offsets)}
        if tensors:
            name = _gen_file_name(1, 1, plan.storage_data["shard_index"])
            save_file(tensors, Path(self.path, name), {CUSTOM_METADATA_KEY: json.dumps(offsets), "format": "pt"})
            storage.as_readable_as_folder(Path(self.path, name))
        done: Future[list[WriteResult]] = Future()
        done.set_result([])  # its readers find everything in the files themselves
        return done
