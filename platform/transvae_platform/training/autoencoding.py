"""The training of an autoencoder: images, latent noise, the losses of both stages, reconstructions.

What travels: ids -> uint8 images -> x_B3HW in [-1, 1] -> (reconstruction_B3HW, mu, logvar) -> losses.
Legend: B batch, H, W pixels, d latent channels, h, w latent map.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from transvae import create_model, storage
from transvae.autoencoder import Autoencoder
from transvae.config import AutoencoderConfig
from transvae.layers.stage import Stage
from transvae.losses.frozen import Origin
from transvae_platform.data.sets.mixture import Samples
from transvae_platform.data.stream.batches import Batch, TrainStream, to_model_input
from transvae_platform.data.stream.hashing import Purpose, keys
from transvae_platform.data.stream.noise import normal_noise
from transvae_platform.evaluation.reconstruction import evaluate_reconstruction, save_pictures
from transvae_platform.study.trial import Trial
from transvae_platform.training.adversary import Adversary
from transvae_platform.training.criterion import Criterion, make_projection
from transvae_platform.training.initial import initial_folder
from transvae_platform.training.network import Network
from transvae_platform.training.parts import Stateful
from transvae_platform.training.task import Task
from transvae_platform.world import World

VALIDATION = "val"
"""Begins the metrics of the held-out samples of the data that is trained on."""


class Autoencoding(Task[Batch]):
    """An autoencoder, with alignment its projection, with a GAN its discriminator."""

    model: Autoencoder

    def __init__(self, trial: Trial, world: World) -> None:
        self.config = AutoencoderConfig.from_dict(trial.model_config_values)
        super().__init__(trial, world)
        recipe = trial.recipe
        self.model = self.initial_model().to(world.device)
        for parameter in self.model.parameters():
            if parameter.dim() == 4 and recipe.channels_last:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        if recipe.gradient_checkpointing:
            self.model.enable_gradient_checkpointing()
        self.network = self.make_network().to(world.device)
        self._adversary: Adversary | None = None

    def make_network(self) -> nn.Module:
        """What the workers train together, drawn after the model."""
        trial = self.trial
        projection = make_projection(trial.recipe.losses, trial.frozen, self.config.latent_dim, self.world.device)
        self._network = Network(self.model, projection)
        return self._network

    @property
    def origins(self) -> list[Origin]:
        return self._criterion.origins

    def initial_model(self) -> Autoencoder:
        """Drawn from the global generator, or the registered model that the trial starts from."""
        if self.trial.initial is None:
            return create_model(self.config)
        return Autoencoder.from_pretrained(initial_folder(self.trial))

    def blocks(self) -> Iterator[nn.Module]:
        for stage in self.network.modules():
            if isinstance(stage, Stage):
                yield from stage.blocks

    def companions(self, skip: Tensor) -> dict[str, Stateful]:
        parts: dict[str, Stateful] = {}
        projection = self._network.projection
        if projection is not None:
            self._projection = {key: value.clone() for key, value in projection.state_dict().items()}
            parts["projection"] = projection
        if self.trial.recipe.losses.gan:
            self._adversary = adversary = Adversary(self.trial.recipe, self.world, skip)
            parts |= {"discriminator": adversary.network, "discriminator_optimizer": adversary.moments}
        self._criterion = Criterion(self.trial, self.config.compression, self.world)
        return parts

    def beside(self) -> list[nn.Module]:
        return [self._adversary.network] if self._adversary else []

    def begin_again(self) -> None:
        if self._network.projection is not None:
            self._network.projection.load_state_dict(self._projection)
        if self._adversary is not None:
            self._adversary.begin_again()

    def enter_stage(self, second: bool) -> None:
        """The second stage is the decoder's."""
        self._network.freeze_encoder(second)

    def stream(self, train: Samples) -> TrainStream:
        trial, world = self.trial, self.world
        return TrainStream(
            train,
            trial.sampling,
            batch_size=trial.recipe.batch_size,
            seed=trial.seed,
            rank=world.rank,
            world=world.size,
        )

    def begin_step(self, step: int) -> None:
        self._learning = self._adversary if self._adversary and step >= self.trial.recipe.gan_start else None
        if self._learning:
            self._learning.forget()

    def inputs(self, batch: Batch, place: int) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W) and latent noise (B, d, h, w)."""
        x_B3HW = to_model_input(batch.images, self.world.device, batch.mirrored)
        config = self.config
        latent = (config.latent_dim, *(side // config.compression for side in x_B3HW.shape[-2:]))
        owners = torch.from_numpy(keys(Purpose.NOISE, self.trial.seed, batch.ids, np.full_like(batch.ids, place)))
        return x_B3HW, normal_noise(owners.to(self.world.device), latent)

    def backward(
        self, wrapped: nn.Module, piece: tuple[Tensor, ...], step: int, pieces: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Of both networks."""
        (x_B3HW, noise_Bdhw), recipe, adversary = piece, self.trial.recipe, self._learning
        decoder_only = step >= recipe.stage_edge
        with self.autocast():
            passed = wrapped(x_B3HW, noise_Bdhw)
            # with a frozen encoder alignment has nothing to act on: worth its cost only where it is looked at
            looked_at = not decoder_only or (step + 1) % self.trial.evaluation.log_every == 0
            features = self._criterion.features(x_B3HW) if looked_at else None
        told = adversary is not None and step >= recipe.gan_start + recipe.losses.gan.alone  # type: ignore[union-attr]
        total, judged, terms = self._criterion.generator(
            self.model, x_B3HW, passed, features, adversary.network if adversary and told else None, decoder_only
        )
        (total / pieces).backward()
        if adversary:
            loss, more = self._criterion.discriminator(adversary.network, x_B3HW, passed.reconstruction.detach())
            (loss / pieces).backward()
            terms |= more
        return judged, terms

    def reduce(self) -> Tensor | None:
        return self._learning.reduce() if self._learning else None

    def update(self) -> None:
        if self._learning:
            self._learning.update()

    def autocast(self) -> torch.autocast:
        """To bfloat16 where the recipe says so."""
        return torch.autocast(self.world.device.type, torch.bfloat16, enabled=self.trial.recipe.precision == "bf16")

    def held_out_batch(self, samples: Samples) -> int:
        """What fits in training fits in validation: as many pixels at once."""
        area = (samples.read(np.zeros(1, np.int64)).shape[1] / self.trial.resolution) ** 2
        return max(1, int(self.trial.recipe.batch_size // self.world.size / area))

    def validate(self, averaged: nn.Module, held_out: Mapping[str, Samples]) -> dict[str, float]:
        trial, world, metrics = self.trial, self.world, dict[str, float]()
        for name, samples in held_out.items():
            share = self.held_out_batch(samples)
            with self.autocast():
                found = evaluate_reconstruction(averaged, samples, trial.evaluation.images, share, world)
            metrics |= {key.replace(VALIDATION, name, 1): value for key, value in found.items()}
        return metrics

    def draw(self, averaged: nn.Module, samples: Samples, path: Path) -> list[float]:
        """Originals above reconstructions; returns each picture's PSNR in dB."""
        return save_pictures(averaged, samples, self.trial.evaluation.pictures, self.world.device, path)

    def publish(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        storage.save(folder, self.config, state)

    def published(self, folder: Path) -> dict[str, Tensor]:
        return Autoencoder.from_pretrained(folder).state_dict()
