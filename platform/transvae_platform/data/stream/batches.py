"""Batches for training and validation, read from shards in the order that `order.py` defines.

BHWC: batch, height, width, 3 channels; images leave here as uint8 and become floats on the device.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from transvae_platform.data.pixels.augment import random_resized_crop, resize_all
from transvae_platform.data.sets.mixture import Samples
from transvae_platform.data.stream.buffers import Buffers
from transvae_platform.data.stream.hashing import Purpose
from transvae_platform.data.stream.order import Ids
from transvae_platform.data.stream.pattern import Pattern
from transvae_platform.data.stream.turns import Turns
from transvae_platform.study.data_spec import Sampling

AnyBatch = TypeVar("AnyBatch", covariant=True)


@dataclass(frozen=True)
class Batch:
    """One worker's part of a global batch."""

    ids: Ids
    """(B,)"""
    images: Tensor
    """(B, H, W, 3) uint8, not mirrored yet"""
    mirrored: Tensor
    """(B,) bool: which images the model sees mirrored; done on the device, where it costs next to nothing"""


class Stream(Protocol[AnyBatch]):
    """Batches by step, of images or of latents."""

    def batch(self, step: int) -> AnyBatch:
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
        self._turns = Turns(samples, sampling.shuffle_window, batch_size, seed, rank, world)
        self._samples, self._sampling, self._seed = samples, sampling, seed
        self._buffers = Buffers()
        self._buckets = sampling.buckets or ()
        self._pattern = Pattern([bucket.share for bucket in self._buckets] or [1.0], Purpose.BUCKET, seed)

    def batch(self, step: int) -> Batch:
        """This worker's part of the global batch of a step (0-based)."""
        ids, epochs, coins = self._turns.at(step)
        images = self._samples.read(ids, empty=self._buffers.empty)
        size, crop = self._bucket(step), self._sampling.crop
        if crop:
            images = random_resized_crop(images, ids, epochs, self._seed, size or crop.size, crop.scale, crop.ratio)
        elif size:
            images = resize_all(images, size)
        return Batch(ids, torch.from_numpy(images), torch.from_numpy(coins & self._sampling.flip))

    def _bucket(self, step: int) -> int | None:
        """The size of the step's bucket: the ids do not depend on it, so an epoch holds every sample once as ever."""
        which, _ = self._pattern.at(np.array([step]))
        return self._buckets[which[0]].size if self._buckets else None


class Ahead(Generic[AnyBatch]):
    """A stream whose next batch is read by a thread while the current one is used."""

    def __init__(self, stream: Stream[AnyBatch]) -> None:
        self._stream = stream
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="stream")
        self._next: tuple[int, Future[AnyBatch]] | None = None

    def batch(self, step: int) -> AnyBatch:
        """This worker's part of the global batch of a step (0-based); starts on the one after it."""
        expected, waiting = self._next or (-1, None)
        future = waiting if waiting and expected == step else self._reader.submit(self._stream.batch, step)
        self._next = None  # what failed is read anew by whoever asks again
        batch = future.result()
        # not before: a reader that goes on at once takes Python's lock after every record from whom it has just woken
        self._next = (step + 1, self._reader.submit(self._stream.batch, step + 1))
        return batch


def to_model_input(images_BHWC: Tensor, device: torch.device, mirrored_B: Tensor | None = None) -> Tensor:
    """uint8 (B, H, W, 3) to float32 (B, 3, H, W) in [-1, 1] on the device, in channels_last memory order.

    Images where `mirrored_B` is true are flipped left to right.
    """
    images_BHWC = images_BHWC.to(device)
    if mirrored_B is not None:
        images_BHWC = torch.where(mirrored_B.to(device)[:, None, None, None], images_BHWC.flip(2), images_BHWC)
    x = images_BHWC.permute(0, 3, 1, 2)
    return x.to(torch.float32) / 127.5 - 1.0
