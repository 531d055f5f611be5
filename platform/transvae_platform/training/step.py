"""One training step: a batch, its losses, the gradients over all workers, one update of each optimiser.

Legend: B batch, H, W pixels, d latent channels, h, w latent map.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from transvae_platform.data.stream.batches import Batch, Stream, to_model_input
from transvae_platform.data.stream.hashing import Purpose, keys
from transvae_platform.data.stream.noise import normal_noise
from transvae_platform.training.adversary import Adversary
from transvae_platform.training.criterion import Criterion
from transvae_platform.training.schedule import learning_rate
from transvae_platform.training.sharding import whole
from transvae_platform.training.weights import TrialWeights
from transvae_platform.world import World


def train_step(weights: TrialWeights, stream: Stream[Batch], criterion: Criterion, world: World) -> dict[str, Tensor]:
    """Take a step, in pieces of a worker's share where its memory asks for that; returns this worker's mean terms."""
    weights.enter_stage()
    recipe, step = weights.trial.recipe, weights.step
    x_B3HW, noise_Bdhw = _inputs(weights, stream, world)
    pieces = weights.trial.workers.accumulate
    rate = learning_rate(recipe, step)
    for group in weights.optimizer.param_groups:
        group["lr"] = rate
    weights.optimizer.zero_grad(set_to_none=True)
    adversary = weights.adversary if weights.adversary and step >= recipe.gan_start else None
    if adversary:
        adversary.forget()
    losses = []
    found: list[dict[str, Tensor]] = []
    for number, (x, noise) in enumerate(zip(x_B3HW.chunk(pieces), noise_Bdhw.chunk(pieces), strict=True), start=1):
        with nullcontext() if number == pieces else _no_reduction(weights.wrapped):
            judged, terms = _backward(weights, adversary, criterion, world, x, noise, pieces)
        losses.append(judged)
        found.append(terms)
    # with an infinite bound the norm is measured and the gradients stay as they are
    norm = whole(nn.utils.clip_grad_norm_(weights.network.parameters(), recipe.clip_norm or math.inf))
    judged_norm = norm
    if adversary:
        discriminator_norm = adversary.reduce()
        judged_norm = norm + 0 * discriminator_norm  # not finite where either is not
    weights.guard.judge(torch.stack(losses).mean(), judged_norm, world)
    weights.optimizer.step()  # moves nothing after a bad verdict, nor does the average
    if adversary:
        adversary.update()
    weights.advance()
    terms = {name: torch.stack([piece[name] for piece in found]).mean() for name in found[0]}
    return {**terms, "gradient_norm": norm, "learning_rate": torch.tensor(rate)}


def _inputs(weights: TrialWeights, stream: Stream[Batch], world: World) -> tuple[Tensor, Tensor]:
    """This worker's images and latent noise of the step."""
    place = weights.guard.enter(weights.step)
    batch = stream.batch(place)
    x_B3HW = to_model_input(batch.images, world.device, batch.mirrored)
    config = weights.config
    latent = (config.latent_dim, *(side // config.compression for side in x_B3HW.shape[-2:]))
    owners = torch.from_numpy(keys(Purpose.NOISE, weights.trial.seed, batch.ids, np.full_like(batch.ids, place)))
    return x_B3HW, normal_noise(owners.to(world.device), latent)


def _backward(
    weights: TrialWeights, adversary: Adversary | None, criterion: Criterion, world: World, x_B3HW: Tensor,
    noise_Bdhw: Tensor, pieces: int,
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """Add one piece's gradients, of both networks; (the loss that the guard judges, all terms)."""
    recipe, step = weights.trial.recipe, weights.step
    with torch.autocast(world.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
        passed = weights.wrapped(x_B3HW, noise_Bdhw)
        # with a frozen encoder alignment has nothing to act on: worth its cost only where it is looked at
        looked_at = not weights.decoder_only or (step + 1) % weights.trial.evaluation.log_every == 0
        features = criterion.features(x_B3HW) if looked_at else None
    told = adversary is not None and step >= recipe.gan_start + recipe.losses.gan.alone  # type: ignore[union-attr]
    total, judged, terms = criterion.generator(
        weights.model, x_B3HW, passed, features, adversary.network if adversary and told else None, weights.decoder_only
    )
    (total / pieces).backward()
    if adversary:
        loss, more = criterion.discriminator(adversary.network, x_B3HW, passed.reconstruction.detach())
        (loss / pieces).backward()
        terms |= more
    return judged, terms


def _no_reduction(wrapped: nn.Module) -> AbstractContextManager[Any]:
    """Workers keep their gradients for themselves until the last piece; sharded ones would not have room for them."""
    return wrapped.no_sync() if isinstance(wrapped, nn.parallel.DistributedDataParallel) else nullcontext()
