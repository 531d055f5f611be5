"""Batches for training and validation, read from memory-mapped shards in the order that `order.py` defines.

BHWC: batch, height, width, 3 channels; images leave here as uint8 and become floats on the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transvae_platform.data.order import batch_ids, coin_flips
from transvae_platform.data.shards import Manifest, read_manifest, read_shard
from transvae_platform.errors import UserError


@dataclass(frozen=True)
class Batch:
    """One worker's part of a global batch: sample ids (B,) and images (B, H, W, 3) uint8."""

    ids: NDArray[np.int64]
    images: Tensor


class SampleSet:
    """Random access to the samples of one split of a data set."""

    def __init__(self, folder: Path, manifest: Manifest, split: str) -> None:
        shards = [shard for shard in manifest.shards if shard.split == split]
        self._images = [read_shard(folder / shard.file, manifest.resolution) for shard in shards]
        self._starts = np.cumsum([0] + [shard.samples for shard in shards])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, ids_B: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images of some ids, (B, H, W, 3) uint8, copied out of the shards."""
        which = np.searchsorted(self._starts, ids_B, side="right") - 1
        within = ids_B - self._starts[which]
        out = np.empty((len(ids_B), *self._images[0].shape[1:]), np.uint8)
        for shard in np.unique(which):
            mask = which == shard
            out[mask] = self._images[shard][within[mask]]
        return out


class TrainStream:
    """The batches of one worker: its slice of every global batch, for any step, without state."""

    def __init__(
        self, samples: SampleSet, *, batch_size: int, seed: int, flip: bool, rank: int = 0, world: int = 1
    ) -> None:
        if len(samples) < batch_size:
            raise UserError(
                f"data: {len(samples)} training samples are fewer than one batch of {batch_size} - "
                "add images, cut more crops (data.view.per_photograph) or lower recipe.batch_size"
            )
        assert batch_size % world == 0, "the grid refuses batches that do not divide"
        self._samples, self._batch_size, self._seed, self._flip = samples, batch_size, seed, flip
        share = batch_size // world
        self._mine = slice(rank * share, (rank + 1) * share)

    def batch(self, step: int) -> Batch:
        """This worker's part of the global batch of a step (0-based)."""
        ids, epochs = batch_ids(len(self._samples), self._batch_size, self._seed, step)
        ids, epochs = ids[self._mine], epochs[self._mine]
        images = self._samples.read(ids)
        if self._flip:
            mirrored = coin_flips(self._seed, ids, epochs)
            images[mirrored] = images[mirrored, :, ::-1]
        return Batch(ids, torch.from_numpy(images))


def open_data(home: Path, fingerprint: str) -> tuple[SampleSet, SampleSet]:
    """(training samples, validation samples) of an ingested data set.

    Raises:
        UserError: the data set is not there (the ingest did not finish, or the folder is not shared between nodes).
    """
    folder = home / "data" / fingerprint
    manifest = read_manifest(folder)
    if manifest is None:
        raise UserError(f"data: {folder} holds no finished data set - is the study's home on a shared file system?")
    return SampleSet(folder, manifest, "train"), SampleSet(folder, manifest, "validation")


def to_model_input(images_BHWC: Tensor, device: torch.device) -> Tensor:
    """uint8 (B, H, W, 3) to float32 (B, 3, H, W) in [-1, 1] on the device, in channels_last memory order."""
    x = images_BHWC.to(device).permute(0, 3, 1, 2)
    return x.to(torch.float32) / 127.5 - 1.0
