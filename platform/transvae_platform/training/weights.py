"""Everything that determines a trial's future: weights, their average, the optimisers, the best steps so far."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from transvae_platform.errors import UserError
from transvae_platform.training.checkpoint import CheckpointStore
from transvae_platform.training.compiling import compile_blocks
from transvae_platform.training.course import Course
from transvae_platform.training.guard import Guard, course_of
from transvae_platform.training.manifest import MANIFEST, sha256_of
from transvae_platform.training.parts import Moments, Stateful, split_parts
from transvae_platform.training.ranks import Ranks
from transvae_platform.training.schedule import ema_decay
from transvae_platform.training.sharding import gathered, local, parts_of, shard
from transvae_platform.training.task import Task
from transvae_platform.training.tensors import Copies, own_share, read_tensors, write_tensors
from transvae_platform.world import World

TensorList = tuple[Tensor, ...] | list[Tensor]
Find = Callable[[], AbstractContextManager[tuple[int, Path] | None]]


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint will hold, copied at one step; on every rank the tensors that it owns."""

    step: int
    best_steps: tuple[int, ...]
    target: int
    """Where a breach after it would lead back to (`training/guard.py`, 4)."""
    tensors: dict[str, Tensor]
    averaged: dict[str, Tensor]
    """Empty on ranks other than 0, as is what follows."""
    values: dict[str, Any]
    publish: Callable[[Path, Mapping[str, Tensor]], None]
    """`Task.publish`."""

    @property
    def needed(self) -> tuple[int, ...]:
        """The steps whose checkpoints stay: the best ones, and where a rewind leads to."""
        return (*self.best_steps, self.target)

    def write(self, folder: Path, ranks: Ranks) -> None:
        """Put the files of `training/checkpoint.py` (1) into a folder; all ranks call it."""
        ranks.together(lambda: write_tensors(folder / "state", self.tensors, ranks))
        ranks.together(lambda: self.write_result(folder) if ranks.rank == 0 else None)

    def write_result(self, folder: Path) -> None:
        """On rank 0: the averaged weights and what they are of."""
        self.publish(folder / "ema", self.averaged)
        (folder / "state.json").write_text(json.dumps(self.values, indent=1))


class TrialWeights:
    """The model of a trial with its optimiser and averaged weights, fresh from the trial's seed.

    `parts` are saved and restored by name; whoever has a state of its own adds itself before `restore`.
    """

    def __init__(self, task: Task[Any]) -> None:
        self.task, self.trial, self._world = task, task.trial, task.world
        self.model, self.network = task.model, task.network
        recipe, world = self.trial.recipe, task.world
        self.step = 0
        self._ema = AveragedModel(self.model, multi_avg_fn=self._average)
        self._count_from(1)
        self.wrapped: nn.Module = self.network
        self._stage = -1  # see `enter_stage`
        if recipe.compile:
            compile_blocks(task.blocks(), world.device)
        self._sharded = self.trial.workers.sharding == "fsdp" and world.size > 1
        if self._sharded:
            shard(self.network, task.blocks(), world, recipe.precision == "bf16")
            self.averaged.load_state_dict(parts_of(self.averaged.state_dict(), self.model.state_dict()), assign=True)
        self._named = named = {key.removeprefix("model."): value for key, value in self.network.named_parameters()}
        self.optimizer = torch.optim.AdamW(
            named.values(),
            lr=recipe.learning_rate,
            betas=recipe.betas,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self.guard = Guard(recipe, world.device)
        # as torch's GradScaler does: where this tensor is 1 the fused kernel leaves weights, moments and counters alone
        self.optimizer.found_inf = self.guard.bad  # type: ignore[attr-defined]
        self.metrics: dict[str, float] = {}
        self._ranking: list[tuple[float, int]] = []
        self._copies = Copies()
        self.parts: dict[str, Stateful] = {
            "model": self.model,
            "optimizer": Moments(named, self.optimizer),
            "guard": self.guard,
            **task.companions(self.guard.bad),
        }

    @property
    def averaged(self) -> nn.Module:
        """The model with the averaged weights, in eval mode: what is validated and registered."""
        return self._ema.module.eval()

    @property
    def best_steps(self) -> tuple[int, ...]:
        """The best steps so far by the trial's metric, the best one first: as many as are kept."""
        return tuple(step for _, step in self._ranking)

    @property
    def best_step(self) -> int | None:
        """The best step so far."""
        return self.best_steps[0] if self._ranking else None

    @property
    def in_second_stage(self) -> bool:
        """Whether the step to come belongs to the recipe's second stage."""
        return self.step >= self.trial.recipe.stage_edge

    def enter_stage(self) -> None:
        """Before every step: if it belongs to another stage than the one before, freeze and wrap what that needs.

        The second stage begins from the averaged weights with fresh moments. They follow from what a checkpoint of
        its first step holds, so it makes no difference whether that was saved before or is restored now.
        """
        stage = 2 if self.in_second_stage else 1
        if stage == self._stage:
            return
        self._stage = stage
        if self.step == self.trial.recipe.stage_edge:
            self.model.load_state_dict(self.averaged.state_dict())
            self.optimizer.state.clear()
        self.task.enter_stage(self.in_second_stage)
        self.optimizer.zero_grad(set_to_none=True)
        self.network.train()
        self.wrapped = self.network if self._sharded else self._world.wrap(self.network)

    def advance(self) -> None:
        """Count an optimiser step and, unless it was skipped, move the averaged weights towards the current ones."""
        self.step += 1
        self._ema.update_parameters(self.model)

    def validated(self, metrics: dict[str, float]) -> None:
        """Remember the metrics of this good step, and the step if it is among the best so far."""
        self.metrics, self.guard.target, rank = metrics, self.step, self.trial.ranked_by
        # of equal ones the earlier stays in front
        found = [*self._ranking, (metrics[rank.metric], self.step)]
        ranking = sorted(found, key=lambda entry: (rank.order(entry[0]), entry[1]))
        self._ranking = ranking[: self.trial.evaluation.keep_best]

    def forget(self, step: int) -> None:
        """Take a step out of the ranking: its checkpoint could not be written."""
        self._ranking = [entry for entry in self._ranking if entry[1] != step]

    def snapshot(self, lineage: Mapping[str, Any], rank: int = 0, size: int = 1) -> Snapshot:
        """Copy everything that a checkpoint of this step holds; the next snapshot uses the same memory."""
        tensors, values = split_parts({name: part.state_dict() for name, part in self.parts.items()})
        with gathered(self.averaged):
            averaged = {f"averaged/{key}": tensor for key, tensor in self.averaged.state_dict().items() if rank == 0}
            copies = self._copies.take({**own_share(tensors, rank, size), **averaged})
        state = {
            "trial": self.trial.id,
            "step": self.step,
            "metrics": self.metrics,
            "best": self._ranking,
            "parts": values,
            "config": self.trial.model_dump(mode="json", exclude={"checkpoints"}),
            "lineage": dict(lineage),
        }
        return Snapshot(
            self.step,
            self.best_steps,
            self.guard.target,
            {key: tensor for key, tensor in copies.items() if key not in averaged},
            {key.removeprefix("averaged/"): copies[key] for key in averaged},
            state if rank == 0 else {},
            self.task.publish,
        )

    def take_back(self, store: CheckpointStore, world: World) -> None:
        """Return to where the guard says after a breach, and divert the data from its target on.

        Raises:
            UserError: a checkpoint is another version's.
        """
        target, course = self.guard.target, self.guard.course
        self.begin_again()
        self.restore(store, world, lambda: store.newest_good(target, partial(_led_to, course)))
        self.guard.course = course.divert(target)

    def restore(self, store: CheckpointStore, world: World, find: Find | None = None) -> str | None:
        """Take the state of the newest good checkpoint, if there is one; returns its manifest's SHA-256.

        Args:
            find: rank 0's choice, if it is another one.

        Raises:
            UserError: the checkpoint is another version's.
        """
        with ExitStack() as opened:
            # rank 0 looks, and sets damaged ones aside; the others take what it found
            found = opened.enter_context((find or store.newest_good)()) if world.rank == 0 else None
            step = int(world.sum(torch.tensor(found[0] if found else 0, device=world.device)))
            if step == 0:
                return None
            folder = found[1] if found else opened.enter_context(store.verified(step))
            self._load(folder)
            return sha256_of(folder / MANIFEST)

    def _load(self, folder: Path) -> None:
        state = json.loads((folder / "state.json").read_text())
        assert state["trial"] == self.trial.id, f"{folder} belongs to {state['trial']}, not to {self.trial.id}"
        if state["parts"].keys() != self.parts.keys():
            raise UserError(
                f"{folder} holds {', '.join(state['parts'])}, this version of the project saves "
                f"{', '.join(self.parts)} - continue with the version that wrote it, or delete the trial's checkpoints"
            )
        tensors = read_tensors(folder / "state", self._target)
        for name, part in self.parts.items():
            own = {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}
            part.load_state_dict({**own, **state["parts"][name]})
        averaged = self.task.published(folder / "ema")
        self.averaged.load_state_dict(parts_of(averaged, self.averaged.state_dict()))
        self.step, self.metrics, self._stage = state["step"], state["metrics"], -1
        self._ranking = [(value, step) for value, step in state["best"]]

    def begin_again(self) -> None:
        """Everything as the trial's seed made it, in place."""
        torch.manual_seed(self.trial.seed)
        initial = parts_of(self.task.initial_model().state_dict(), self.model.state_dict())
        self.model.load_state_dict(initial)
        self.averaged.load_state_dict(initial)
        self.optimizer.state.clear()
        self.task.begin_again()
        self.guard.begin_again()
        self.step, self.metrics, self._ranking, self._stage = 0, {}, [], -1

    def _target(self, key: str) -> Tensor | None:
        """The weight that a checkpoint's tensor belongs to, as its value or as one of its moments; None for others."""
        part, *_, name = key.split("/")
        if part not in ("model", "projection", "optimizer"):
            return None
        return self._named.get(f"projection.{name}" if part == "projection" else name)

    def finite(self) -> bool:
        """Whether all current and averaged weights are finite numbers (waits for the device)."""
        networks = (self.network, self.averaged, *self.task.beside())
        every = [parameter for network in networks for parameter in network.parameters()]
        largest = torch._foreach_norm([part for part in map(local, every) if part.numel()], math.inf)
        return bool(torch.stack(largest).isfinite().all())

    def _average(self, averaged: TensorList, current: TensorList, _: Tensor | int) -> None:
        weight = (1 - self.guard.bad) * (1 - ema_decay(self.trial.recipe, self.step))
        torch._foreach_lerp_([*map(local, averaged)], [*map(local, current)], [weight] * len(current))

    def _count_from(self, updates: int) -> None:
        # AveragedModel replaces its weights by the current ones while it has counted no update; ours start from the
        # initial weights
        assert isinstance(self._ema.n_averaged, Tensor)
        self._ema.n_averaged.fill_(updates)


def _led_to(course: Course, step: int, folder: Path) -> bool:
    """Whether a checkpoint's state is one that a run on this course has at that step."""
    state = json.loads((folder / "state.json").read_text())
    return course_of(state["parts"]["guard"]).past(step) == course.past(step)
