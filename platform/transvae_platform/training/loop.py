"""The training loop of a VAE trial: plain PyTorch, from the first line to the last without Ray or MLflow.

What travels: ids -> uint8 images -> x_BCHW in [-1, 1] -> (reconstruction_BCHW, mu, logvar) -> losses -> weights.
Everything that is random is a function of (seed, step), so a resumed run continues as if it had never stopped.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from transvae import create_model
from transvae.accounting import count_model
from transvae.config import AutoencoderConfig
from transvae.losses.objective import Objective, ObjectiveConfig
from transvae_platform.data.stream import SampleSet, TrainStream, to_model_input
from transvae_platform.errors import UserError
from transvae_platform.evaluation.reconstruction import evaluate_reconstruction, save_pictures
from transvae_platform.study.grid import Trial
from transvae_platform.study.journal import Journal
from transvae_platform.training.checkpoint import CheckpointStore
from transvae_platform.training.schedule import ema_decay, learning_rate
from transvae_platform.training.world import World


class DivergedError(UserError):
    """The loss or a metric is no longer a finite number; trying again would end the same way."""


def train_vae(
    trial: Trial,
    samples: tuple[SampleSet, SampleSet],
    folder: Path,
    journal: Journal | None,
    world: World,
    lineage: dict[str, Any],
) -> dict[str, float]:
    """Train one trial to its last step, resuming from its newest good checkpoint; returns the final metrics.

    Args:
        samples: training and held-out samples.
        folder: the trial's folder, for checkpoints and pictures.
        journal: the trial's journal on rank 0, None on the others.
        lineage: code version and environment, recorded with the attempt.

    Raises:
        DivergedError: the loss is not finite.
    """
    recipe, evaluation = trial.recipe, trial.evaluation
    train, validation = samples
    stream = TrainStream(
        train, batch_size=recipe.batch_size, seed=trial.seed, flip=trial.flip, rank=world.rank, world=world.size
    )
    state = TrialWeights(trial, world)
    store = CheckpointStore(
        folder / "checkpoints", evaluation.keep_checkpoints,
        on_bad=lambda message: journal.append("damaged", message=message) if journal else None,
    )
    start = state.restore(store)
    if journal:
        store.clean()
        journal.append(
            "started", step=start, resumed_from=start, world=world.size, device=_device_name(world.device),
            lineage=lineage,
        )
    objective = Objective(ObjectiveConfig(l1=recipe.losses.l1, kl=recipe.losses.kl, reduction=recipe.losses.reduction))
    flops_per_image = count_model(state.config, trial.resolution).training_flops
    metrics: dict[str, float] = dict(state.metrics)
    finite = torch.ones((), dtype=torch.bool, device=world.device)
    clock = time.monotonic()
    for step in range(start, recipe.steps):
        terms, norm = _train_step(state, stream, objective, recipe, step, world)
        finite &= torch.isfinite(terms["loss"])
        done = step + 1
        progress = {"step": done, "images": done * recipe.batch_size, "flops": done * recipe.batch_size * flops_per_image}
        last = done == recipe.steps
        if done % evaluation.log_every == 0 or last:
            _refuse_if_not(finite, done, world)
            if journal:
                rate = (time.monotonic() - clock) / (evaluation.log_every)
                values = {f"train/{name}": float(value) for name, value in terms.items()}
                values |= {"train/gradient_norm": float(norm), "train/learning_rate": learning_rate(recipe, step)}
                journal.append("step", **progress, metrics=values, seconds_per_step=round(rate, 5))
            clock = time.monotonic()
        if done % evaluation.every == 0 or last:
            _refuse_if_not(finite, done, world)
            state.ema.eval()
            metrics = evaluate_reconstruction(state.ema, validation, evaluation.images, world)
            if not all(math.isfinite(value) for value in metrics.values()):
                raise DivergedError(f"a validation metric is not finite at step {done}: {metrics}")
            state.validated(done, metrics)
            if journal:
                picture = Path("pictures") / f"step_{done:09d}.png"
                psnrs = save_pictures(state.ema, validation, evaluation.pictures, world, folder / picture)
                journal.append("validated", **progress, metrics=metrics)
                journal.append("pictures", step=done, path=picture.as_posix(), psnr=psnrs)
                sha256 = store.save(done, lambda path: state.write(path, done), state.best_step)
                journal.append("checkpoint", step=done, sha256=sha256, best_step=state.best_step)
            world.report({**metrics, "step": float(done)})
            clock = time.monotonic()
    if journal:
        journal.append("finished", step=recipe.steps, metrics=metrics)
    return metrics


class TrialWeights:
    """Everything that determines a trial's future: weights, their average, the optimiser, the best step so far."""

    def __init__(self, trial: Trial, world: World) -> None:
        self.config = AutoencoderConfig.from_dict(trial.model_config_values)
        torch.manual_seed(trial.seed)  # initial weights; nothing after this line draws from the global generator
        self.model = create_model(self.config).to(world.device, memory_format=torch.channels_last)
        if trial.recipe.gradient_checkpointing:
            self.model.enable_gradient_checkpointing()
        self._updates = 0
        self.ema = AveragedModel(self.model, multi_avg_fn=self._average(trial))
        self.wrapped = world.wrap(self.model.train())
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=trial.recipe.learning_rate, betas=trial.recipe.betas,
            weight_decay=trial.recipe.weight_decay, fused=True,
        )
        self.trial, self.device = trial, world.device
        self.metrics: dict[str, float] = {}
        self.best_step: int | None = None
        self._best = -math.inf

    def _average(self, trial: Trial) -> Any:
        def average(averaged: list[Tensor], current: list[Tensor], _: Tensor) -> None:
            torch._foreach_lerp_(averaged, current, 1 - ema_decay(trial.recipe, self._updates))

        return average

    def update_average(self, updates: int) -> None:
        """Move the averaged weights towards the current ones; `updates` counts optimiser steps so far."""
        self._updates = updates
        if updates == 1:
            self.ema.n_averaged.fill_(1)  # start from the initial weights, do not replace them by the first update
        self.ema.update_parameters(self.model)

    def validated(self, step: int, metrics: dict[str, float]) -> None:
        """Remember the metrics, and the step if it is the best so far (highest PSNR)."""
        self.metrics = metrics
        if metrics["val/psnr"] > self._best:
            self._best, self.best_step = metrics["val/psnr"], step

    def write(self, folder: Path, step: int) -> None:
        """Put the state into a checkpoint folder."""
        torch.save(
            {
                "trial": self.trial.id, "step": step, "model_state_dict": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(), "metrics": self.metrics, "best_step": self.best_step,
                "best": self._best,
            },
            folder / "state.pt",
        )
        self.ema.module.save_pretrained(folder / "ema")

    def restore(self, store: CheckpointStore) -> int:
        """Take the newest good checkpoint's state; returns the step to continue from (0 without one)."""
        newest = store.newest_good()
        if newest is None:
            return 0
        step, path = newest
        state = torch.load(path / "state.pt", map_location=self.device, weights_only=True)
        assert state["trial"] == self.trial.id, f"{path} belongs to {state['trial']}, not to {self.trial.id}"
        self.model.load_state_dict(state["model_state_dict"])
        self.optimizer.load_state_dict(state["optimizer"])
        averaged = type(self.ema.module).from_pretrained(path / "ema")
        self.ema.module.load_state_dict(averaged.state_dict())
        self.ema.n_averaged.fill_(step)
        self.metrics, self.best_step, self._best = state["metrics"], state["best_step"], state["best"]
        return step


def _train_step(
    state: TrialWeights, stream: TrainStream, objective: nn.Module, recipe: Any, step: int, world: World
) -> tuple[dict[str, Tensor], Tensor]:
    x_BCHW = to_model_input(stream.batch(step).images_BHWC, world.device)
    noise = latent_noise(state.config, x_BCHW, recipe.batch_size, state.trial.seed, step, world)
    with torch.autocast(world.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
        reconstruction_BCHW, mu, logvar = state.wrapped(x_BCHW, noise=noise)
    loss, terms = objective(x_BCHW, reconstruction_BCHW, mu, logvar)
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(recipe, step)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    # with an infinite bound the norm is measured and the gradients stay as they are
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip_norm or math.inf)
    state.optimizer.step()
    state.update_average(step + 1)
    return {"loss": loss.detach(), **terms}, norm


def latent_noise(
    config: AutoencoderConfig, x_BCHW: Tensor, batch_size: int, seed: int, step: int, world: World
) -> Tensor:
    """This worker's slice of the step's latent noise (B, d, H/f, W/f), drawn for the whole global batch.

    A function of (seed, step) on one kind of device, the same for any number of workers.
    """
    generator = torch.Generator(world.device).manual_seed(seed * 1_000_003 + step)
    height, width = (side // config.compression for side in x_BCHW.shape[-2:])
    shape = (batch_size, config.latent_dim, height, width)
    noise = torch.randn(shape, generator=generator, device=world.device)
    share = batch_size // world.size
    return noise[world.rank * share : (world.rank + 1) * share]


def _refuse_if_not(finite: Tensor, step: int, world: World) -> None:
    # every process must come to the same answer, or the others would wait for it for ever
    if world.sum((~finite).to(torch.int32)).item():
        raise DivergedError(f"the training loss is not finite by step {step} - lower the learning rate or clip")


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
