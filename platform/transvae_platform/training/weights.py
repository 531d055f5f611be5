"""Everything that determines a trial's future: weights, their average, the optimiser, the best step so far."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from transvae import create_model
from transvae.autoencoder import Autoencoder
from transvae.config import AutoencoderConfig
from transvae_platform.study.grid import Trial
from transvae_platform.training.checkpoint import CheckpointStore
from transvae_platform.training.guard import Guard
from transvae_platform.training.schedule import ema_decay
from transvae_platform.world import World

TensorList = tuple[Tensor, ...] | list[Tensor]


class TrialWeights:
    """The model of a trial with its optimiser and averaged weights, fresh from the trial's seed."""

    def __init__(self, trial: Trial, world: World) -> None:
        self.trial = trial
        self.config = AutoencoderConfig.from_dict(trial.model_config_values)
        torch.manual_seed(trial.seed)  # initial weights; nothing after this line draws from the global generator
        self.model = create_model(self.config).to(world.device)
        for parameter in self.model.parameters():
            if parameter.dim() == 4:  # up to a quarter faster for convolutions (measured on a CPU)
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        if trial.recipe.gradient_checkpointing:
            self.model.enable_gradient_checkpointing()
        self.step = 0
        self._ema = AveragedModel(self.model, multi_avg_fn=self._average)
        self._count_from(1)
        self.wrapped = world.wrap(self.model.train())
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=trial.recipe.learning_rate,
            betas=trial.recipe.betas,
            weight_decay=trial.recipe.weight_decay,
            fused=True,
        )
        self.guard = Guard(trial.recipe, world.device)
        # as torch's GradScaler does: where this tensor is 1 the fused kernel leaves weights, moments and counters alone
        self.optimizer.found_inf = self.guard.bad  # type: ignore[attr-defined]
        self.metrics: dict[str, float] = {}
        self.best_step: int | None = None
        self._best_psnr = -math.inf

    @property
    def averaged(self) -> Autoencoder:
        """The model with the averaged weights, in eval mode: what is validated and registered."""
        model = self._ema.module
        assert isinstance(model, Autoencoder)
        return model.eval()

    def advance(self) -> None:
        """Count an optimiser step and, unless it was skipped, move the averaged weights towards the current ones."""
        self.step += 1
        self._ema.update_parameters(self.model)

    def validated(self, metrics: dict[str, float]) -> None:
        """Remember the metrics of this step, and the step if it is the best so far (highest PSNR)."""
        self.metrics = metrics
        if metrics["val/psnr"] > self._best_psnr:
            self._best_psnr, self.best_step = metrics["val/psnr"], self.step

    def write(self, folder: Path) -> None:
        """Put the state into a checkpoint folder."""
        state = {
            "trial": self.trial.id,
            "step": self.step,
            "model_state_dict": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "metrics": self.metrics,
            "best_step": self.best_step,
            "best_psnr": self._best_psnr,
            "guard": self.guard.state_dict(),
        }
        torch.save(state, folder / "state.pt")
        self.averaged.save_pretrained(folder / "ema")

    def restore(self, store: CheckpointStore, world: World) -> None:
        """Take the state of the newest good checkpoint, if there is one."""
        # rank 0 looks, and moves damaged ones out of the way; the others take what it found
        found = (store.newest_good() or 0) if world.rank == 0 else 0
        step = int(world.sum(torch.tensor(found, device=world.device)))
        if step == 0:
            return
        path = store.path(step)
        state = torch.load(path / "state.pt", map_location=world.device, weights_only=True)
        assert state["trial"] == self.trial.id, f"{path} belongs to {state['trial']}, not to {self.trial.id}"
        self.model.load_state_dict(state["model_state_dict"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.averaged.load_state_dict(Autoencoder.from_pretrained(path / "ema").state_dict())
        self.step, self.metrics = state["step"], state["metrics"]
        self.best_step, self._best_psnr = state["best_step"], state["best_psnr"]
        self.guard.load_state_dict(state["guard"])

    def begin_again(self) -> None:
        """Everything as the trial's seed made it, in place."""
        torch.manual_seed(self.trial.seed)
        initial = create_model(self.config).state_dict()
        self.model.load_state_dict(initial)
        self.averaged.load_state_dict(initial)
        self.optimizer.state.clear()
        self.guard.begin_again()
        self.step, self.metrics, self.best_step, self._best_psnr = 0, {}, None, -math.inf

    def finite(self) -> bool:
        """Whether the current and the averaged weights are finite numbers (waits for the device)."""
        largest = torch._foreach_norm([*self.model.parameters(), *self.averaged.parameters()], math.inf)
        return bool(torch.stack(largest).isfinite().all())

    def _average(self, averaged: TensorList, current: TensorList, _: Tensor | int) -> None:
        weight = (1 - self.guard.bad) * (1 - ema_decay(self.trial.recipe, self.step))
        torch._foreach_lerp_(averaged, current, [weight] * len(current))

    def _count_from(self, updates: int) -> None:
        # AveragedModel replaces its weights by the current ones while it has counted no update; ours start from the
        # initial weights
        assert isinstance(self._ema.n_averaged, Tensor)
        self._ema.n_averaged.fill_(updates)
