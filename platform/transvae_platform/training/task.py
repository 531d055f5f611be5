"""What a trial trains, apart from how: one contract between a kind of trial and everything that trains all kinds alike.

The loop, the step, the guard, checkpoints and preemption know this contract only. A kind is a file beside this one
(`autoencoding.py`, `generating.py`); all randomness of its steps is a function of (seed, sample, step).

Order of calls: the constructor draws `model`, and what is trained along with it, from the trial's seed; `companions`
once, when everything stands where it will be trained; then `enter_stage`, `begin_step`, `inputs`, `backward` for each
piece of a worker's share, `reduce` and `update` for every step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from transvae.losses.frozen import Origin
from transvae_platform.data.sets.mixture import Samples
from transvae_platform.data.stream.batches import Stream
from transvae_platform.study.trial import Trial
from transvae_platform.training.parts import Stateful
from transvae_platform.world import World

AnyBatch = TypeVar("AnyBatch")


class Task(ABC, Generic[AnyBatch]):
    """One kind of trial, for one trial."""

    model: nn.Module
    """What is averaged, validated and published."""
    network: nn.Module
    """`model`, or one module of it and what is trained along with it: gradients of one module are averaged."""

    def __init__(self, trial: Trial, world: World) -> None:
        """Subclasses draw `model` and `network` here, from the global generator as the trial's seed leaves it."""
        self.trial, self.world = trial, world
        torch.manual_seed(trial.seed)  # after the weights nothing draws from the global generator

    @property
    def origins(self) -> list[Origin]:
        """The frozen networks that losses need, for the lineage."""
        return []

    @abstractmethod
    def initial_model(self) -> nn.Module:
        """`model` as at the beginning, drawn from the global generator."""

    @abstractmethod
    def blocks(self) -> Iterable[nn.Module]:
        """The repeated parts of `network`: each is compiled, or gathered from its parts, by itself."""

    def companions(self, skip: Tensor) -> dict[str, Stateful]:
        """What learns beside `model`, as parts of a checkpoint by name; drawn after it.

        Args:
            skip: 1 while the newest step is bad, else 0; then `update` must move nothing.
        """
        return {}

    def beside(self) -> list[nn.Module]:
        """Networks that learn beside `network`: their weights, too, must stay finite."""
        return []

    def begin_again(self) -> None:
        """Let everything but `model` be as before the first step."""

    def enter_stage(self, second: bool) -> None:
        """Freeze what the steps to come do not train; `second`: they are of the recipe's second stage."""

    @abstractmethod
    def stream(self, train: Samples) -> Stream[AnyBatch]:
        """This worker's batches."""

    def begin_step(self, step: int) -> None:
        """Before the gradients of a step."""

    @abstractmethod
    def inputs(self, batch: AnyBatch, place: int) -> tuple[Tensor, ...]:
        """What a step needs on the device: tensors over this worker's samples.

        Args:
            place: of the batch in the sequence of samples; the step, but after a rewind.
        """

    @abstractmethod
    def backward(
        self, wrapped: nn.Module, piece: tuple[Tensor, ...], step: int, pieces: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the gradients of one of `pieces` pieces of `inputs`; (the loss that the guard judges, all terms).

        Args:
            wrapped: `network`, as gradients are averaged through it.
        """

    def reduce(self) -> Tensor | None:
        """Make the gradients of what learns beside `network` means over all workers; their norm, if there are any."""
        return None

    def update(self) -> None:
        """One step of the optimisers of what learns beside `network`."""

    @abstractmethod
    def validate(self, averaged: nn.Module, held_out: Mapping[str, Samples]) -> dict[str, float]:
        """Metrics of the averaged model on held-out samples, by the name that begins their metrics; equal everywhere.

        All ranks call it.
        """

    @abstractmethod
    def draw(self, averaged: nn.Module, samples: Samples, path: Path) -> list[float]:
        """Write a sheet of pictures; returns what belongs under each. Rank 0 alone calls it.

        Raises:
            OSError: it cannot be written.
        """

    @abstractmethod
    def publish(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write the averaged weights as a folder that `from_pretrained` reads."""

    @abstractmethod
    def published(self, folder: Path) -> dict[str, Tensor]:
        """The weights that `publish` wrote.

        Raises:
            UserError: they are of something else than this task trains.
        """
