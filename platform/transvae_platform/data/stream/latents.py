"""The batches of a generator's training: stored latents with their labels, in the same order as images would come.

As in LightningDiT every sample is its latent or, by its coin, the latent of the mirrored image, and each channel is
normalised by its mean and deviation over the training split: (z - mean) / std. Here the two are read from the manifest.

BCHW: batch, C latent channels, height and width of the latent.

    train, _ = open_training_data([("runs/data/<fingerprint>", 1.0)], default_cache(), CACHE_BYTES)
    stream = Ahead(LatentStream(train, Sampling(), batch_size=1024, seed=0, rank=rank, world=world))
    scale = ChannelScale.of(train).to(device)
    z_BCHW, y_B = scale.model_input(stream.batch(step))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transvae.generation import LatentSpace
from transvae_platform.data.sets.gather import Empty
from transvae_platform.data.sets.manifest import Manifest
from transvae_platform.data.sets.mixture import Samples
from transvae_platform.data.stream.buffers import Buffers
from transvae_platform.data.stream.order import Ids
from transvae_platform.data.stream.turns import Turns
from transvae_platform.errors import SpecError, UserError
from transvae_platform.study.data_spec import Sampling

FIELDS = ("latent", "latent_flip")


@dataclass(frozen=True)
class LatentBatch:
    """One worker's part of a global batch."""

    ids: Ids
    """(B,)"""
    latents: Tensor
    """(B, C, h, w) as they are stored: float16, bfloat16 or float32, not normalised"""
    labels: Tensor
    """(B,) int64"""
    captions: tuple[str, ...] = ()
    """One for each, where the stream is of captioned latents."""
    sources: Tensor | None = None
    """Like `latents`, where the stream is of edits: what each is an edit of, mirrored alike; itself if it is none,"""
    edited: Tensor | None = None
    """and (B,) bool: which are edits"""


class LatentStream:
    """The batches of one worker: its slice of every global batch, for any step, without state."""

    def __init__(
        self, samples: Samples, sampling: Sampling, *, batch_size: int, seed: int, rank: int = 0, world: int = 1,
        labelled: bool = True, captioned: bool = False, edits: bool = False,
    ) -> None:  # fmt: skip
        """Of the sampling, `flip` and `shuffle_window` apply. Without labels all samples are of class 0.

        A mirrored sample keeps its caption. With `edits` the latents that samples are edits of come beside them.

        Raises:
            UserError: these are no latents to draw from, or fewer than one batch.
            SpecError: the sampling has crops or sizes, which latents cannot be given.
        """
        for manifest, _ in samples.parts:
            held = manifest.settings["content"] if manifest.kind == "latents" else manifest.kind
            if held not in ("sample", "mean"):
                raise UserError(
                    f"data: {manifest.fingerprint} holds {held}, generators train on latents - extract samples or means"
                )
        if sampling.crop or sampling.buckets:
            raise SpecError("data.sampling: `crop` and `buckets` are for images, latents have one size - remove them")
        self._turns = Turns(samples, sampling.shuffle_window, batch_size, seed, rank, world)
        self._samples, self._flip, self._labelled, self._captioned = samples, sampling.flip, labelled, captioned
        self._is_bfloat16 = samples.parts[0][0].settings["dtype"] == "bfloat16"
        self._sources = samples.sources() if edits else None
        self._buffers = Buffers()

    def batch(self, step: int) -> LatentBatch:
        """This worker's part of the global batch of a step (0-based).

        Raises:
            UserError: a shard holds records without a label, or a caption.
        """
        ids, _, coins = self._turns.at(step)
        return self._as_batch(ids, coins & self._flip, self._buffers.empty)

    def of(self, ids: Ids) -> LatentBatch:
        """Some samples as they are, none mirrored."""
        return self._as_batch(ids, np.zeros(len(ids), np.bool_), np.empty)

    def _as_batch(self, ids: Ids, mirrored_B: NDArray[np.bool_], empty: Empty) -> LatentBatch:
        def latents(ids: Ids) -> Tensor:
            stored = torch.from_numpy(self._samples.read(ids, *FIELDS, choice_B=mirrored_B, empty=empty))
            return stored.view(torch.bfloat16) if self._is_bfloat16 else stored

        labels = torch.from_numpy(self._samples.labels(ids) if self._labelled else np.zeros(len(ids), np.int64))
        captions = captions_of(self._samples, ids) if self._captioned else ()
        if self._sources is None:
            return LatentBatch(ids, latents(ids), labels, captions)
        of = self._sources[ids]
        sources, edited = latents(np.where(of >= 0, of, ids)), torch.from_numpy(of >= 0)
        return LatentBatch(ids, latents(ids), labels, captions, sources, edited)


def captions_of(samples: Samples, ids: Ids) -> tuple[str, ...]:
    """Raises UserError where a sample has no caption, or an empty one."""
    captions = samples.column(ids, "caption")
    for number, caption in zip(ids.tolist(), captions, strict=True):
        if caption is None or not caption.strip():
            what = "no caption" if caption is None else "an empty caption"
            raise UserError(
                f"data: sample {number} of {'+'.join(part.fingerprint for part, _ in samples.parts)} has {what} - "
                "every image of a text-to-image study needs one"
            )
    return tuple(captions)


@dataclass(frozen=True)
class ChannelScale:
    """Between stored latents and what a generator sees: mean 0 and deviation 1 in every channel."""

    mean: Tensor
    std: Tensor
    """(C, 1, 1) float32"""

    @classmethod
    def of(cls, samples: Samples) -> ChannelScale:
        """From the manifests; of a mixture, the statistics of all samples in their shares.

        Raises:
            UserError: a data set has no statistics, or a channel that never changes.
        """
        return cls.from_values(*channel_values(samples))

    @classmethod
    def from_values(cls, mean: Sequence[float], std: Sequence[float]) -> ChannelScale:
        """From one mean and one deviation per channel."""
        return cls(*(torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (mean, std)))

    def to(self, device: torch.device) -> ChannelScale:
        """The same on a device."""
        return ChannelScale(self.mean.to(device), self.std.to(device))

    def model_input(self, batch: LatentBatch) -> tuple[Tensor, Tensor]:
        """(z_BCHW, y_B): normalised float32 latents and int64 labels on this scale's device."""
        return self.normalise(batch.latents), batch.labels.to(self.mean.device)

    def normalise(self, latents_BCHW: Tensor) -> Tensor:
        """Stored latents as float32 on this scale and its device."""
        return (latents_BCHW.to(self.mean.device).float() - self.mean) / self.std  # it grows to float32 there

    def restore(self, z_BCHW: Tensor) -> Tensor:
        """What a generator made, as the decoder wants it: z * std + mean."""
        return z_BCHW * self.std + self.mean


def channel_values(samples: Samples) -> tuple[list[float], list[float]]:
    """(mean, deviation) of every channel; errors are those of `ChannelScale.of`."""
    shares = np.array([share for _, share in samples.parts])
    known = [_statistics(manifest) for manifest, _ in samples.parts]
    means_NC, stds_NC = (np.array(values) for values in zip(*known, strict=True))
    weights = shares / shares.sum()
    mean_C = weights @ means_NC
    # what varies within the parts, and between them
    std_C = np.sqrt(weights @ (stds_NC**2 + (means_NC - mean_C) ** 2))
    return mean_C.tolist(), std_C.tolist()


def latent_space(samples: Samples) -> LatentSpace:
    """What a generator's folder says of the latents that it was trained on; errors as `ChannelScale.of`."""
    manifests = [manifest for manifest, _ in samples.parts]
    first = manifests[0].settings
    mean, std = channel_values(samples)
    return LatentSpace(
        fingerprint="+".join(manifest.fingerprint for manifest in manifests),
        data="+".join(str(manifest.settings["data"]) for manifest in manifests),
        resolution=int(first["resolution"]),
        content=str(first["content"]),
        tokenizer=dict(first["model"]),
        mean=tuple(mean),
        std=tuple(std),
    )


def _statistics(manifest: Manifest) -> tuple[list[float], list[float]]:
    named = manifest.statistics
    if not named or not all(deviation > 0 for deviation in named["std"]):
        what = "a channel that never changes" if named else "no statistics of its channels"
        raise UserError(f"data: {manifest.fingerprint} has {what}, it cannot be normalised - extract its latents again")
    return named["mean"], named["std"]
