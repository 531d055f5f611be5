"""Samples of a text-to-image generator: a sample's number decides its noise and its caption.

Captions are those of the held-out images, in turn. Legend: B batch, d latent channels, h, w latent positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transvae.generation import LatentSpace, TextDiT
from transvae.generation.diffusion import ddim, sampling_steps
from transvae.generation.sampling import dopri5, euler, times
from transvae.generation.text import Text, TextEncoder
from transvae.generation.text_guidance import TextGuidance, guided_by_text
from transvae_platform.data.stream.hashing import Purpose, keys
from transvae_platform.data.stream.noise import normal_noise
from transvae_platform.study.downstream_spec import SamplerSpec
from transvae_platform.study.text_spec import TextSpec


@dataclass(frozen=True)
class Prompted:
    """A network with what it is asked for, in place of one that is told labels."""

    network: TextDiT
    spec: TextSpec
    encoder: TextEncoder
    captions: Sequence[str]
    """At least one: sample i is drawn for caption i modulo their number."""
    sources: Callable[[NDArray[np.int64]], Tensor] | None = None
    """With editing what to make it from, by numbers of captions: (B, d, h, w), zeros for captions of no edit."""

    @property
    def latents(self) -> LatentSpace | None:
        """Those that the network was trained on."""
        return self.network.latents

    def follow(self, sampler: SamplerSpec, ids: NDArray[np.int64], device: torch.device) -> tuple[Tensor, int]:
        """((B, d, h, w) on the network's scale, evaluations per sample) of the samples with these numbers."""
        config = self.network.config
        owners = torch.from_numpy(keys(Purpose.SAMPLE, sampler.seed, ids)).to(device)
        noise_Bdhw = normal_noise(owners, (config.latent_dim, config.latent_size, config.latent_size))
        numbers = ids % len(self.captions)
        text = on(self.encoder.encode([self.captions[number] for number in numbers.tolist()]), device)
        guidance = TextGuidance(self.spec.guidance, self.spec.editing.guidance if self.spec.editing else 1.0)
        answer = guided_by_text(self.network, text, guidance, self.sources(numbers) if self.sources else None)
        if self.spec.objective == "noise":
            noise = self.spec.noise
            steps = sampling_steps(noise.schedule(), noise.sampled, noise.spacing)
            return ddim(answer, noise_Bdhw, noise.schedule(), steps), len(steps)
        if sampler.method == "dopri5":
            return dopri5(answer, noise_Bdhw)
        at = times(sampler.times, sampler.shift)
        return euler(answer, noise_Bdhw, at), len(at) - 1


def on(text: Text, device: torch.device) -> Text:
    """The same on a device."""
    return Text(text.tokens.to(device), text.mask.to(device))
