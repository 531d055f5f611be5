"""Tensors of a checkpoint, written by all ranks and read by any number of them: torch.distributed.checkpoint (DCP).

Stored as safetensors (DCP's `HuggingFaceStorageWriter`), because DCP's own format keeps its index as a pickle: a reader
would have to list the private classes that this pickle may build and follow torch's changes to them. A safetensors file
holds JSON and numbers and can be read without torch. What it cannot hold, numbers and text, stands in `state.json`.

Each tensor has one owner among the ranks, so every rank copies and writes its part only. DCP's writer puts a whole file
together in memory first; ours writes the tensors from where they are (same format, a quarter of the CPU time).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
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
        """Copies of these tensors as they are now."""
        taken = {}
        for key, tensor in tensors.items():
            buffer = self._buffers.get(key)
            if buffer is None or (buffer.shape, buffer.dtype) != (tensor.shape, tensor.dtype):
                buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._buffers[key] = taken[key] = buffer.copy_(tensor.detach(), non_blocking=True)
        if any(tensor.is_cuda for tensor in tensors.values()):
            torch.cuda.synchronize()
        return taken


def own_share(tensors: Mapping[str, Tensor], rank: int, size: int) -> dict[str, Tensor]:
    """The tensors that a rank owns: each tensor has one owner, and all own about as many bytes."""
    loads, owners = [0] * size, {}
    for key in sorted(tensors, key=lambda key: (-tensors[key].nbytes, key)):
        owners[key] = loads.index(min(loads))
        loads[owners[key]] += tensors[key].nbytes
    return {key: tensor for key, tensor in tensors.items() if owners[key] == rank}


def write_tensors(folder: Path, tensors: dict[str, Tensor], ranks: Ranks) -> None:
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


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, on the CPU, however many ranks wrote them; each rank reads for itself."""
    reader = HuggingFaceStorageReader(str(folder))
    known = reader.read_metadata().state_dict_metadata
    tensors = {}
    for key, entry in known.items():
        assert isinstance(entry, TensorStorageMetadata)
        tensors[key.removeprefix(f"{ROOT}.")] = torch.empty(entry.size, dtype=entry.properties.dtype)
    load({ROOT: tensors}, storage_reader=reader, no_dist=True)
    return tensors


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
