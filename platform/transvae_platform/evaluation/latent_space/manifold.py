"""How thin the set is that latents lie on, and how far noise leads off it: the off-manifold comparison.

Raw features of a vision network vary along few of their many directions, so a generator that errs a little errs away
from all that the decoder has seen; S-VAE and PS-VAE answer that with a compact latent under a KL. Measured on latents
that are normalised per channel, as generators see them: how many directions they use (`transvae.latent_statistics`),
and where held-out latents, alone and with noise of some deviations added, lie beside those of the training images.

Legend: N vectors, M references, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from transvae.latent_statistics import NEIGHBOURS, off_manifold, spectrum
from transvae_platform.errors import UserError
from transvae_platform.evaluation.latent_space.vectors import Latents, random_vectors

IMAGES = 2000  # of either split at most (assumption; distances of all pairs are computed)
NOISE = (0.25, 0.5, 1.0)  # deviations of a channel (assumption)
SHARE = 0.99  # of the variance, that directions are counted for


@dataclass(frozen=True)
class Manifold:
    """Of one data set of latents."""

    n: int
    """Held-out vectors,"""
    references: int
    """and those of training images. Ratios compare at equal numbers of them only."""
    channels: int
    effective_rank: float
    participation: float
    directions: int
    """That hold SHARE of the variance."""
    ratio: dict[str, float]
    """By deviations of noise, "0" for none: median distance to the K-th reference over that of the references among
    themselves. 1: where latents are."""
    inside: dict[str, float]
    """The share that lies as near to some reference as its own K-th neighbour."""
    settings: dict[str, float | int]


def measure_manifold(
    train: Latents, held_out: Latents, *, images: int = IMAGES, noise: tuple[float, ...] = NOISE, seed: int = 0
) -> Manifold:
    """One random position of each image.

    Raises:
        UserError: there are too few images, or latents that are all the same.
    """
    reference_MC, vectors_NC = (torch.from_numpy(random_vectors(part, images, seed)) for part in (train, held_out))
    draw = torch.from_numpy(np.random.default_rng(seed).standard_normal(tuple(vectors_NC.shape))).float()
    try:
        own = spectrum(reference_MC)
        found = {f"{level:g}": off_manifold(vectors_NC + level * draw, reference_MC) for level in (0.0, *noise)}
    except ValueError as error:
        raise UserError(f"manifold: {error}") from None
    return Manifold(
        n=len(vectors_NC),
        references=len(reference_MC),
        channels=reference_MC.shape[1],
        effective_rank=own.effective_rank,
        participation=own.participation,
        directions=own.directions(SHARE),
        ratio={level: one.ratio for level, one in found.items()},
        inside={level: one.inside for level, one in found.items()},
        settings={"neighbours": NEIGHBOURS, "share": SHARE, "seed": seed},
    )
