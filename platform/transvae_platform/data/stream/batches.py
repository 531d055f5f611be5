"""Batches for training and validation, read from shards in the order that `order.py` defines.

BHWC: batch, height, width, 3 channels; images leave here as uint8 and become floats on the device.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transvae_platform.data.pixels.augment import random_resized_crop, resize_all
from transvae_platform.data.sets.mixture import Samples
from transvae_platform.data.stream.hashing import Purpose, coin_flips
from transvae_platform.data.stream.order import Ids
from transvae_platform.data.stream.pattern import Pattern
from transvae_platform.errors import UserError
from transvae_platform.study.data_spec import Sampling

POSITIONS_AHEAD = 4096  # ids computed at once: small batches would otherwise pay NumPy's overhead per call
EXPECTATIONS = 8  # per block of those (assumption): distant shards are asked for that often, to follow the reader


@dataclass(frozen=True)
class Batch:
    """One worker's part of a global batch."""

    ids: Ids
    """(B,)"""
    images: Tensor
    """(B, H, W, 3) uint8, not mirrored yet"""
    mirrored: Tensor
    """(B,) bool: which images the model sees mirrored; done on the device, where it costs next to nothing"""


class Stream(Protocol):
    """Batches by step."""

    def batch(self, step: int) -> Batch:
        """This worker's part of the global batch of a step (0-based)."""


class TrainStream:
    """The batches of one worker: its slice of every global batch, for any step, without state."""

    def __init__(
        self,
        samples: Samples,
        sampling: Sampling,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if len(samples) < batch_size:
            raise UserError(
                f"data: {len(samples)} training samples are fewer than one batch of {batch_size} - "
                "add images, cut more crops (data.view.per_photograph) or lower recipe.batch_size"
            )
        assert batch_size % world == 0, "the grid refuses batches that do not divide"
        self._samples, self._sampling, self._batch_size, self._seed = samples, sampling, batch_size, seed
        self._order = samples.order(sampling.shuffle_window)
        self._buckets = sampling.buckets or ()
        self._pattern = Pattern([bucket.share for bucket in self._buckets] or [1.0], Purpose.BUCKET, seed)
        share = batch_size // world
        self._mine = slice(rank * share, (rank + 1) * share)
        self._steps_ahead = max(1, POSITIONS_AHEAD // batch_size)
        self._block = lru_cache(maxsize=2)(self._ids_of_block)
        self._step = -1  # the one before: after a jump distant shards are asked for at once

    def batch(self, step: int) -> Batch:
        """This worker's part of the global batch of a step (0-based)."""
        ids, epochs, mirrored = self._ids(step)
        images = self._samples.read(ids)
        size, crop = self._bucket(step), self._sampling.crop
        if crop:
            images = random_resized_crop(images, ids, epochs, self._seed, size or crop.size, crop.scale, crop.ratio)
        elif size:
            images = resize_all(images, size)
        return Batch(ids, torch.from_numpy(images), torch.from_numpy(mirrored & self._sampling.flip))

    def _bucket(self, step: int) -> int | None:
        """The size of the step's bucket: the ids do not depend on it, so an epoch holds every sample once as ever."""
        which, _ = self._pattern.at(np.array([step]))
        return self._buckets[which[0]].size if self._buckets else None

    def _ids(self, step: int) -> tuple[Ids, Ids, NDArray[np.bool_]]:
        block, within = divmod(step, self._steps_ahead)
        start = within * self._batch_size
        mine = slice(start + self._mine.start, start + self._mine.stop)
        ids, epochs, mirrored = self._block(block)
        if within % -(-self._steps_ahead // EXPECTATIONS) == 0 or step != self._step + 1:
            self._samples.expect(np.concatenate([ids[start:], self._block(block + 1)[0]]))
        self._step = step
        return ids[mine], epochs[mine], mirrored[mine]

    def _ids_of_block(self, block: int) -> tuple[Ids, Ids, NDArray[np.bool_]]:
        count = self._steps_ahead * self._batch_size
        ids, epochs = self._order.ids_at(np.arange(block * count, (block + 1) * count), self._seed)
        return ids, epochs, coin_flips(self._seed, ids, epochs)


class Ahead:
    """A stream whose next batch is read by a thread while the current one is used."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="stream")
        self._next: tuple[int, Future[Batch]] | None = None

    def batch(self, step: int) -> Batch:
        """This worker's part of the global batch of a step (0-based); starts on the one after it."""
        expected, waiting = self._next or (-1, None)
        future = waiting if waiting and expected == step else self._reader.submit(self._stream.batch, step)
        self._next = (step + 1, self._reader.submit(self._stream.batch, step + 1))
        return future.result()


def to_model_input(images_BHWC: Tensor, device: torch.device, mirrored_B: Tensor | None = None) -> Tensor:
    """uint8 (B, H, W, 3) to float32 (B, 3, H, W) in [-1, 1] on the device, in channels_last memory order.

    Images where `mirrored_B` is true are flipped left to right.
    """
    images_BHWC = images_BHWC.to(device)
    if mirrored_B is not None:
        images_BHWC = torch.where(mirrored_B.to(device)[:, None, None, None], images_BHWC.flip(2), images_BHWC)
    x = images_BHWC.permute(0, 3, 1, 2)
    return x.to(torch.float32) / 127.5 - 1.0
