"""One training step: a batch, its losses, the gradients over all workers, one update of each optimiser."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from transvae_platform.data.stream.batches import Stream
from transvae_platform.training.schedule import learning_rate
from transvae_platform.training.sharding import whole
from transvae_platform.training.weights import TrialWeights
from transvae_platform.world import World


def train_step(weights: TrialWeights, stream: Stream[Any], world: World) -> dict[str, Tensor]:
    """Take a step, in pieces of a worker's share where its memory asks for that; returns this worker's mean terms."""
    weights.enter_stage()
    task, recipe, step = weights.task, weights.trial.recipe, weights.step
    place = weights.guard.enter(step)
    inputs = task.inputs(stream.batch(place), place)
    pieces = weights.trial.workers.accumulate
    rate = learning_rate(recipe, step)
    for group in weights.optimizer.param_groups:
        group["lr"] = rate
    weights.optimizer.zero_grad(set_to_none=True)
    task.begin_step(step)
    losses = []
    found: list[dict[str, Tensor]] = []
    for number, piece in enumerate(zip(*(tensor.chunk(pieces) for tensor in inputs), strict=True), start=1):
        with nullcontext() if number == pieces else _no_reduction(weights.wrapped):
            judged, terms = task.backward(weights.wrapped, piece, step, pieces)
        losses.append(judged)
        found.append(terms)
    # with an infinite bound the norm is measured and the gradients stay as they are
    norm = whole(nn.utils.clip_grad_norm_(weights.network.parameters(), recipe.clip_norm or math.inf))
    beside = task.reduce()
    judged_norm = norm if beside is None else norm + 0 * beside  # not finite where either is not
    weights.guard.judge(torch.stack(losses).mean(), judged_norm, world)
    weights.optimizer.step()  # moves nothing after a bad verdict, nor does the average
    task.update()
    weights.advance()
    terms = {name: torch.stack([piece[name] for piece in found]).mean() for name in found[0]}
    return {**terms, "gradient_norm": norm, "learning_rate": torch.tensor(rate)}


def _no_reduction(wrapped: nn.Module) -> AbstractContextManager[Any]:
    """Workers keep their gradients for themselves until the last piece; sharded ones would not have room for them."""
    return wrapped.no_sync() if isinstance(wrapped, nn.parallel.DistributedDataParallel) else nullcontext()
