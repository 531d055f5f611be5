"""Latents of a data set as a person or a probe looks at them: normalised by the statistics of their channels.

Legend: N images, C channels, h, w latent map.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transvae_platform.data.latents.channels import to_float32
from transvae_platform.data.sets.samples import SampleSet
from transvae_platform.data.stream.latents import FIELDS, ChannelScale
from transvae_platform.errors import UserError

Floats = NDArray[np.float32]


class Latents:
    """One split of a data set of latents, mean 0 and deviation 1 in every channel of its training split."""

    def __init__(self, samples: SampleSet) -> None:
        """Raises UserError for a data set of images, or one without statistics of its channels."""
        settings = samples.manifest.settings
        if samples.manifest.kind != "latents":
            raise UserError(
                f"{samples.manifest.fingerprint} holds {samples.manifest.kind}, not latents - make them: "
                "`transvae data latents MODEL DATA --name NAME`"
            )
        self.samples, self._dtype, self._content = samples, str(settings["dtype"]), str(settings["content"])
        channels, *_ = samples.manifest.fields[0].shape
        self.channels = channels // 2 if self._content == "posterior" else channels
        self._scale = ChannelScale.of(samples)

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, ids_N: NDArray[np.int64], mirrored_N: NDArray[np.bool_] | None = None) -> Tensor:
        """(N, C, h, w) float32: of the image, or of its mirror image; of posteriors the mean."""
        choice = np.zeros(len(ids_N), np.int64) if mirrored_N is None else mirrored_N.astype(np.int64)
        stored = self.samples.read(ids_N, *FIELDS, choice_B=choice)
        values = torch.from_numpy(to_float32(stored, self._dtype))[:, : self.channels]
        return (values - self._scale.mean) / self._scale.std

    def labels(self, ids_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """(N,) class numbers. Raises UserError where there are none."""
        return self.samples.labels(ids_N)


def random_vectors(latents: Latents, count: int, seed: int) -> Floats:
    """(n, C): of up to `count` random images, mirrored or not, one random position each (LightningDiT)."""
    random = np.random.default_rng(seed)
    ids_N = np.sort(random.permutation(len(latents))[:count]).astype(np.int64)
    mirrored_N = random.random(len(ids_N)) < 0.5
    places = random.random((len(ids_N), 2))
    vectors = np.empty((len(ids_N), latents.channels), np.float32)
    for start in range(0, len(ids_N), 256):  # maps of 256 images at once, whatever their number
        part = slice(start, start + 256)
        maps = latents.read(ids_N[part], mirrored_N[part]).numpy()
        rows, columns = (places[part] * maps.shape[2:]).astype(np.int64).T
        vectors[part] = maps[np.arange(len(maps)), :, rows, columns]
    return vectors
