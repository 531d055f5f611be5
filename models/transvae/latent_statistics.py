"""What tells latents apart that a generator finds easy from those that it does not: the off-manifold comparison.

Raw features of a vision network have a thousand channels of which few directions vary; a generator that errs into the
others leaves what the decoder has seen. S-VAE and PS-VAE answer that with a compact latent under a KL. Measured here,
all as pure functions of vectors (one latent position each; `vectors` draws them):

1. how many directions the latents use: `spectrum`, of which `effective_rank` and `participation` count;
2. how far other vectors lie from them: `off_manifold`. Others are generated latents, or latents with noise, or what the
   semantic decoder makes of noise, beside the features of real images;
3. whether decoding and encoding again takes noise away or keeps it: `round_trip`.

Legend: N vectors, M reference vectors, C channels, B batch, h, w latent map, K neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

NEIGHBOURS = 3  # Kynkaanniemi et al. 2019
CHUNK = 1024  # vectors whose distances are held at once


@dataclass(frozen=True)
class Spectrum:
    """Of vectors; all in the units they came in."""

    mean: Tensor
    """(C,) float64"""
    std: Tensor
    """(C,) float64, unbiased: of each channel."""
    variances: Tensor
    """(C,) float64, falling: along the principal directions."""

    @property
    def effective_rank(self) -> float:
        """exp of the entropy of the variances' shares: C where all are equal, 1 for a line.

        (Roy and Vetterli 2007, on variances instead of singular values.)
        """
        shares = self.variances / self.variances.sum()
        return float(torch.special.entr(shares).sum().exp())

    @property
    def participation(self) -> float:
        """(sum of variances)^2 / sum of their squares: between 1 and C, less moved by small variances."""
        return float(self.variances.sum().square() / self.variances.square().sum())

    def directions(self, share: float = 0.99) -> int:
        """How many principal directions hold this share of the variance."""
        held = self.variances.cumsum(0) / self.variances.sum()
        return int((held < share - 1e-12).sum()) + 1


@dataclass(frozen=True)
class OffManifold:
    """Where vectors lie beside reference vectors."""

    ratio: float
    """Median distance to the K-th nearest reference, over that of the references among themselves: 1 is like them."""
    inside: float
    """Share of the vectors within the K-th neighbour's distance of some reference (precision, the same source)."""


def vectors(latents_BChw: Tensor, limit: int | None = None, generator: torch.Generator | None = None) -> Tensor:
    """(N, C): the latents at all positions, or at `limit` of them drawn without repetition."""
    every_NC = latents_BChw.movedim(1, -1).flatten(0, -2)
    if limit is None or limit >= len(every_NC):
        return every_NC
    return every_NC[torch.randperm(len(every_NC), generator=generator)[:limit]]


def spectrum(vectors_NC: Tensor) -> Spectrum:
    """Mean, deviations and principal variances, in float64.

    Raises ValueError for fewer than two vectors, numbers that are not finite, or vectors that are all the same.
    """
    _check(vectors_NC, "vectors", 2)
    values_NC = vectors_NC.double()
    mean_C = values_NC.mean(0)
    centred_NC = values_NC - mean_C
    covariance_CC = centred_NC.mT @ centred_NC / (len(values_NC) - 1)
    variances_C = torch.linalg.eigvalsh(covariance_CC).flip(0).clamp(min=0)
    if not variances_C.sum() > 0:
        raise ValueError("the vectors are all the same: there is no spectrum")
    return Spectrum(mean_C, covariance_CC.diagonal().sqrt(), variances_C)


def off_manifold(vectors_NC: Tensor, reference_MC: Tensor, neighbours: int = NEIGHBOURS) -> OffManifold:
    """How far the vectors lie from the references, by Euclidean distances in the units given (normalise before).

    Both numbers depend on M: compare at equal M only. Raises ValueError for other channels or too few references.
    """
    _check(vectors_NC, "vectors", 1)
    _check(reference_MC, "references", neighbours + 1)
    if vectors_NC.shape[1] != reference_MC.shape[1]:
        raise ValueError(f"vectors of {vectors_NC.shape[1]} channels beside references of {reference_MC.shape[1]}")
    vectors_NC, reference_MC = vectors_NC.double(), reference_MC.double()
    radius_M = torch.cat(
        [torch.cdist(part, reference_MC).kthvalue(neighbours + 1, dim=1).values for part in reference_MC.split(CHUNK)]
    )  # the nearest reference of a reference is itself
    far, inside = [], []
    for part_NC in vectors_NC.split(CHUNK):
        distance_NM = torch.cdist(part_NC, reference_MC)
        far.append(distance_NM.kthvalue(neighbours, dim=1).values)
        inside.append((distance_NM <= radius_M).any(1))
    ratio = torch.cat(far).median() / radius_M.median()
    return OffManifold(float(ratio), float(torch.cat(inside).double().mean()))


@torch.no_grad()
def round_trip(
    decode: Callable[[Tensor], Tensor], encode: Callable[[Tensor], Tensor], latents_BChw: Tensor,
    noise_BChw: Tensor, sigma: float, std_C: Tensor,
) -> float:  # fmt: skip
    """Mean squared error, in variances of the channels, between latents and encode(decode(latents + sigma std noise)).

    With sigma 0 it is what a round trip loses; a decoder that projects onto the manifold keeps it near that for small
    sigma, one that passes noise through adds sigma^2.
    """
    std_C11 = std_C[:, None, None].to(latents_BChw)
    again_BChw = encode(decode(latents_BChw + sigma * std_C11 * noise_BChw))
    return float(((again_BChw - latents_BChw) / std_C11).double().square().mean())


def _check(values_NC: Tensor, what: str, least: int) -> None:
    if values_NC.ndim != 2 or len(values_NC) < least:
        raise ValueError(f"{what} have the shape (N, C) with N of at least {least}, not {tuple(values_NC.shape)}")
    if not values_NC.isfinite().all():
        raise ValueError(f"{what} hold numbers that are not finite")
