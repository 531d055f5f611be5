"""Samples of a generator: noise -> latents along the learned velocity -> images, each a function of its number.

Noise and label of a sample are hashes of (seed, number). Samples are drawn in groups of `sampler.batch` consecutive
numbers, whole groups always, because `dopri5` chooses its steps for a group and rounding depends on its size: so on one
kind of device a sample is the same bits whichever numbers are asked for and however many processes share them.

Legend: B batch, d latent channels, h, w latent positions, H, W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transvae.generation import LightningDiT
from transvae.generation.sampling import Guidance, dopri5, euler, guided, times
from transvae_platform.data.stream.hashing import Purpose, keys, logical_shift
from transvae_platform.data.stream.latents import ChannelScale
from transvae_platform.data.stream.noise import normal_noise
from transvae_platform.errors import UserError
from transvae_platform.evaluation.prompted import Prompted
from transvae_platform.evaluation.reconstruction import to_8bit
from transvae_platform.study.downstream_spec import SamplerSpec
from transvae_platform.world import World

Ids = NDArray[np.int64]
Drawer = LightningDiT | Prompted
"""What draws: a network that is told labels, or one that is told captions with those."""
Decode = Callable[[Tensor], Tensor]
"""Latents (B, d, h, w) to images (B, 3, H, W) in [-1, 1], not clamped."""


@dataclass(frozen=True)
class Drawn:
    """Some samples of a group."""

    ids: Ids
    labels: Ids
    """Both (B,); labels are 0 where captions were told."""
    latents: Tensor
    """(B, d, h, w) as the decoder wants them"""
    evaluations: int
    """Of the network per sample: with guidance two evaluations are run as one batch and count once."""


@torch.no_grad()
def draw_latents(network: Drawer, sampler: SamplerSpec, ids: Ids, world: World, bf16: bool = False) -> Iterator[Drawn]:
    """The samples with these numbers, those of this process; group after group in ascending order.

    Raises:
        UserError: the network's folder does not say how its latents are normalised.
    """
    device = world.device
    if network.latents is None:
        raise UserError("the generator does not say which latents it was trained on - it cannot be decoded")
    scale = ChannelScale.from_values(network.latents.mean, network.latents.std).to(device)
    groups = np.unique(ids // sampler.batch)
    for group in groups[world.rank :: world.size].tolist():
        numbers = np.arange(group * sampler.batch, (group + 1) * sampler.batch, dtype=np.int64)
        labels = np.zeros_like(numbers)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            if isinstance(network, Prompted):
                z_Bdhw, evaluations = network.follow(sampler, numbers, device)
            else:
                labels = sample_labels(sampler, numbers, network.config.classes)
                z_Bdhw, evaluations = _follow(network, sampler, numbers, torch.from_numpy(labels).to(device))
        wanted = np.isin(numbers, ids)
        chosen = torch.from_numpy(np.flatnonzero(wanted)).to(device)
        yield Drawn(numbers[wanted], labels[wanted], scale.restore(z_Bdhw.float()[chosen]), evaluations)


def draw_images(
    network: Drawer, decode: Decode, sampler: SamplerSpec, ids: Ids, world: World, bf16: bool = False
) -> Iterator[tuple[Drawn, Tensor]]:
    """The same, each with its images as 8-bit levels (B, 3, H, W), NaN where they are not finite."""
    for drawn in draw_latents(network, sampler, ids, world, bf16):
        with torch.no_grad(), torch.autocast(world.device.type, torch.bfloat16, enabled=bf16):
            images_B3HW = decode(drawn.latents)
        yield drawn, to_8bit(images_B3HW.float())


def sample_labels(sampler: SamplerSpec, ids: Ids, classes: int) -> Ids:
    """(B,) labels of samples: at random, or every class in turn."""
    if sampler.labels == "balanced":
        return ids % classes
    return logical_shift(keys(Purpose.SAMPLE_LABEL, sampler.seed, ids), 11) % classes


def _follow(network: LightningDiT, sampler: SamplerSpec, ids: Ids, labels_B: Tensor) -> tuple[Tensor, int]:
    config, spec = network.config, sampler.guidance
    owners = torch.from_numpy(keys(Purpose.SAMPLE, sampler.seed, ids)).to(labels_B.device)
    noise_Bdhw = normal_noise(owners, (config.latent_dim, config.latent_size, config.latent_size))
    guidance = Guidance(spec.scale, spec.start, spec.channels) if spec else None
    velocity = guided(network, labels_B, config.classes, guidance)
    if sampler.method == "dopri5":
        return dopri5(velocity, noise_Bdhw)
    at = times(sampler.times, sampler.shift)
    return euler(velocity, noise_Bdhw, at), len(at) - 1
