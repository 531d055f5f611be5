"""The Fréchet distance of a generator's samples along its training: one number per validation, always the same way.

Legend: B batch, H, W pixels, D Inception features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from transvae.losses.frozen import FrozenConfig, FrozenWeightsError, Origin
from transvae_platform.data.sets.mixture import Samples
from transvae_platform.data.stream.batches import to_model_input
from transvae_platform.errors import UserError
from transvae_platform.evaluation.frechet import frechet_distance
from transvae_platform.evaluation.generation import Decode, Drawer, draw_images
from transvae_platform.evaluation.inception import DIMENSION, load_inception
from transvae_platform.evaluation.moments import Gaussian, Moments
from transvae_platform.evaluation.reconstruction import spread, to_8bit
from transvae_platform.evaluation.reference import keep_reference, kept_reference
from transvae_platform.study.downstream_spec import Curve, SamplerSpec
from transvae_platform.study.trial import stable_hash
from transvae_platform.world import World

SUMS = ("total", "coarse", "mixed", "fine")


class Meter:
    """Measures samples against originals; the originals' moments are kept in the home, for all trials."""

    def __init__(
        self, curve: Curve, sampler: SamplerSpec, originals: Samples, decode: Decode, world: World, home: Path,
        inception: str | None = None,
    ) -> None:  # fmt: skip
        """Args:
            originals: images of the split that the curve names.
            inception: the file of its weights, by default the hub's cache.

        Raises:
            UserError: Inception's weights are missing.
        """
        self._curve, self._sampler, self._originals, self._decode = curve, sampler, originals, decode
        self._world, self._home = world, home
        random = curve.inception == "random"
        try:
            config = FrozenConfig(weights=curve.inception, path=None if random else inception)
            self._inception = load_inception(curve.extractor, config, world.device)
        except FrozenWeightsError as error:
            raise UserError(
                f"downstream.curve: {error} - or set downstream.curve.inception=random, whose metric bears another name"
            ) from None
        self.name = "gfid_random" if random else "gfid"
        self._reference: Gaussian | None = None

    @property
    def origin(self) -> Origin:
        """Which Inception this is."""
        return self._inception.origin

    def measure(self, network: Drawer, bf16: bool) -> dict[str, float]:
        """`val/gfid`, or `val/gfid_random`, and `val/nfe`, evaluations per sample; all processes call it.

        The distance is NaN where a sample is not finite.
        """
        curve, world = self._curve, self._world
        if self._reference is None:
            self._reference = self._reference_moments()
        broken, evaluations, moments = 0, 0, Moments.empty(DIMENSION)
        for drawn, levels_B3HW in draw_images(
            network, self._decode, self._sampler, np.arange(curve.samples), world, bf16
        ):
            broken += int((~torch.isfinite(levels_B3HW)).any())
            evaluations = max(evaluations, drawn.evaluations)
            self._add(moments, levels_B3HW.nan_to_num())
        found = world.sum(torch.tensor([broken, world.rank == 0 and evaluations], device=world.device)).tolist()
        moments = _merged(moments, world)
        distance = math.nan
        if not found[0]:  # one process solves: all of them must come to the same digits
            own = frechet_distance(self._reference, moments.gaussian()) if world.rank == 0 else 0.0
            distance = float(world.sum(torch.tensor(own, dtype=torch.float64, device=world.device)))
        return {f"val/{self.name}": distance, "val/nfe": float(found[1])}

    def _reference_moments(self) -> Gaussian:
        curve, world, samples = self._curve, self._world, self._originals
        key = stable_hash(
            [[m.fingerprint for m, _ in samples.parts], curve.against, curve.originals, curve.extractor,
             vars(self.origin)]
        )[:16]  # fmt: skip
        kept = kept_reference(self._home, key) if world.rank == 0 else None
        if int(world.sum(torch.tensor(int(kept is not None), device=world.device))):
            return kept or Gaussian(0, np.zeros(DIMENSION), np.zeros((DIMENSION, DIMENSION)))  # rank 0 alone solves
        moments = Moments.empty(DIMENSION)
        for levels_B3HW in self._original_levels():
            self._add(moments, levels_B3HW)
        found = _merged(moments, world).gaussian()
        if world.rank == 0:
            keep_reference(self._home, key, found)
        return found

    def _original_levels(self) -> Iterator[Tensor]:
        ids = spread(self._curve.originals, self._originals)[self._world.rank :: self._world.size]
        batch = self._sampler.batch
        for start in range(0, len(ids), batch):
            images = torch.from_numpy(self._originals.read(ids[start : start + batch]))
            yield to_8bit(to_model_input(images, self._world.device))

    def _add(self, moments: Moments, levels_B3HW: Tensor) -> None:
        moments.add(self._inception(levels_B3HW).cpu().numpy())


def _merged(moments: Moments, world: World) -> Moments:
    """The sums over all processes: exact, so the same bits for any number of them (`evaluation/moments.py`)."""

    def summed(values: np.ndarray) -> np.ndarray:
        total: np.ndarray = world.sum(torch.from_numpy(values.copy()).to(world.device)).cpu().numpy()
        return total

    count = int(world.sum(torch.tensor(moments.count, device=world.device)))
    return Moments(count, *(summed(getattr(moments, name)) for name in SUMS))
