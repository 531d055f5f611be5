"""The training of a generator: stored latents, a time and noise for each, the velocity between them.

What travels: ids -> stored latents -> z_Bdhw, normalised -> (x_t, velocity, t, label) -> the transport loss.
Times, noise and which labels are dropped are hashes of (seed, sample, step).

Legend: B batch, d latent channels, h, w latent positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from transvae.generation import DiTConfig, LatentSpace, LightningDiT
from transvae.generation import folder as generator_folder
from transvae.generation.transport import VelocityLoss, interpolate, logit_normal_times, velocity_loss
from transvae.losses.frozen import Origin
from transvae.tokenizers import TokenizerError, open_tokenizer
from transvae_platform.data.sets.mixture import Samples, open_training_data
from transvae_platform.data.sets.remote import CACHE_BYTES, default_cache
from transvae_platform.data.stream.hashing import Purpose, keys, uniforms
from transvae_platform.data.stream.latents import ChannelScale, LatentBatch, LatentStream, latent_space
from transvae_platform.data.stream.noise import normal_noise
from transvae_platform.data.stream.order import Ids
from transvae_platform.errors import UserError
from transvae_platform.evaluation.curve import Meter
from transvae_platform.evaluation.generation import Decode, draw_images
from transvae_platform.evaluation.reconstruction import spread, write_grid
from transvae_platform.study.grid import Trial
from transvae_platform.training.task import Task
from transvae_platform.world import World

HELD_OUT_SEED, HELD_OUT_PLACE = 0, -1
"""Noise and times of held-out latents: the same at every step of every trial, and none of a training's."""


class Generating(Task[LatentBatch]):
    """A LightningDiT on the latents of one autoencoder."""

    model: LightningDiT

    def __init__(
        self, trial: Trial, world: World, space: LatentSpace, decode: Decode, meter: Meter | None = None
    ) -> None:
        """Args:
            space: the latents that it is given; they are published with it.
            decode: of their autoencoder.
            meter: measures samples at every validation.

        Raises:
            UserError: the latents are of another resolution or content than the trial's.
        """
        super().__init__(trial, world)
        assert trial.generator is not None
        self._of, self._space, self._decode, self._meter = trial.generator, space, decode, meter
        self.config = DiTConfig(**trial.model_config_values)
        for what, expected, found in (
            ("resolution", trial.resolution, space.resolution),
            ("content", self._of.latents.content, space.content),
            ("channels", self.config.latent_dim, len(space.mean)),
        ):
            if found != expected:
                raise UserError(
                    f"{trial.id}: its latents have the {what} {expected}, {space.fingerprint} has {found} - extract "
                    "those of its own autoencoder"
                )
        self._scale = ChannelScale.from_values(space.mean, space.std).to(world.device)
        self.model = self.initial_model().to(world.device)
        self.model.gradient_checkpointing = trial.recipe.gradient_checkpointing
        self.network = self.model

    @property
    def origins(self) -> list[Origin]:
        return [self._meter.origin] if self._meter else []

    def initial_model(self) -> LightningDiT:
        return LightningDiT(self.config, self._space)

    def blocks(self) -> Iterable[nn.Module]:
        return self.model.blocks

    def stream(self, train: Samples) -> LatentStream:
        trial, world = self.trial, self.world
        return LatentStream(
            train, trial.sampling, batch_size=trial.recipe.batch_size, seed=trial.seed, rank=world.rank,
            world=world.size, labelled=self.config.classes > 1,
        )  # fmt: skip

    def inputs(self, batch: LatentBatch, place: int) -> tuple[Tensor, ...]:
        """x_t and velocities (B, d, h, w), times (B,), labels (B,), the null label where one is dropped."""
        dropped = uniforms(Purpose.DROPOUT, self.trial.seed, batch.ids, np.full_like(batch.ids, place), 1)[:, 0]
        return self._on_path(batch, self.trial.seed, place, torch.from_numpy(dropped < self._of.label_dropout))

    def _on_path(self, batch: LatentBatch, seed: int, place: int, dropped_B: Tensor) -> tuple[Tensor, ...]:
        classes = self.config.classes
        if len(batch.labels) and not 0 <= int(batch.labels.min()) <= int(batch.labels.max()) < classes:
            raise UserError(
                f"{self.trial.id}: downstream.classes is {classes}, but a sample has the label "
                f"{int(batch.labels.max())} - labels are 0 to {classes - 1}; set the number of classes"
            )
        z_Bdhw, labels_B = self._scale.model_input(batch)
        noise_B1 = normal_noise(self._owners(Purpose.TIME, seed, batch.ids, place), (1,))
        noise_Bdhw = normal_noise(self._owners(Purpose.PATH, seed, batch.ids, place), tuple(z_Bdhw.shape[1:]))
        t_B = logit_normal_times(noise_B1[:, 0])
        x_Bdhw, velocity_Bdhw = interpolate(z_Bdhw, noise_Bdhw, t_B)
        return x_Bdhw, velocity_Bdhw, t_B, torch.where(dropped_B.to(labels_B.device), classes, labels_B)

    def _owners(self, purpose: Purpose, seed: int, ids: Ids, place: int) -> Tensor:
        return torch.from_numpy(keys(purpose, seed, ids, np.full_like(ids, place))).to(self.world.device)

    def _loss(self, network: nn.Module, piece: tuple[Tensor, ...]) -> VelocityLoss:
        x_Bdhw, velocity_Bdhw, t_B, labels_B = piece
        with torch.autocast(self.world.device.type, torch.bfloat16, enabled=self._bf16):
            predicted_Bdhw = network(x_Bdhw, t_B, labels_B)
        return velocity_loss(predicted_Bdhw, velocity_Bdhw)

    @property
    def _bf16(self) -> bool:
        return self.trial.recipe.precision == "bf16"

    def backward(
        self, wrapped: nn.Module, piece: tuple[Tensor, ...], step: int, pieces: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        loss = self._loss(wrapped, piece)
        (loss.total / pieces).backward()
        terms = {"loss": loss.total, "mse": loss.mse, "cosine": loss.cosine}
        return loss.total.detach(), {name: term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def validate(self, averaged: nn.Module, held_out: Mapping[str, Samples]) -> dict[str, float]:
        """The loss on held-out latents at fixed times and noise; with a meter the distance of samples, too."""
        assert isinstance(averaged, LightningDiT)
        world, metrics = self.world, dict[str, float]()
        for name, samples in held_out.items():
            ids = spread(self.trial.evaluation.images, samples)[world.rank :: world.size]
            share = max(1, self.trial.recipe.batch_size // world.size)
            stream = LatentStream(samples, self.trial.sampling, batch_size=1, seed=0, labelled=self.config.classes > 1)
            sums = torch.zeros(3, dtype=torch.float64, device=world.device)
            for start in range(0, len(ids), share):
                batch = stream.of(ids[start : start + share])
                kept = torch.zeros(len(batch.ids), dtype=torch.bool)
                loss = self._loss(averaged, self._on_path(batch, HELD_OUT_SEED, HELD_OUT_PLACE, kept))
                sums += len(batch.ids) * torch.stack([loss.mse, loss.cosine, torch.ones_like(loss.mse)]).double()
            mse, cosine, count = world.sum(sums).tolist()
            metrics |= {
                f"{name}/loss": (mse + cosine) / count, f"{name}/mse": mse / count, f"{name}/cosine": cosine / count,
            }  # fmt: skip
        if self._meter:
            metrics |= self._meter.measure(averaged, self._bf16)
        return metrics

    def draw(self, averaged: nn.Module, samples: Samples, path: Path) -> list[float]:
        """Samples in one row: the first ones, by number."""
        assert isinstance(averaged, LightningDiT)
        count = self.trial.evaluation.pictures
        few, here = self._of.sampler.model_copy(update={"batch": count}), World(device=self.world.device)
        (_, levels_B3HW), *_ = draw_images(averaged, self._decode, few, np.arange(count), here, self._bf16)
        write_grid([levels_B3HW.nan_to_num()], path)
        return []

    def publish(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        generator_folder.save(folder, self.config, self._space, state)

    def published(self, folder: Path) -> dict[str, Tensor]:
        kept = LightningDiT.from_pretrained(folder)
        if kept.latents is None or _decides(kept.latents) != _decides(self._space):
            raise UserError(
                f"{self.trial.id}: its checkpoint was trained on the latents {_words(kept.latents)}, it is now given "
                f"{_words(self._space)} - bring those back, or delete {folder.parent.parent} to begin again"
            )
        return kept.state_dict()


def open_generating(
    trial: Trial, world: World, latents: Samples, autoencoder: str, weights_sha256: str,
    images: Sequence[tuple[str, float]], home: str,
) -> Generating:  # fmt: skip
    """The task of a generator's trial on stored latents.

    Args:
        autoencoder: the folder of what made them.
        weights_sha256: of its weights.
        images: places of the data set that they were made of.
        home: keeps the moments of originals.

    Raises:
        UserError: the latents are another autoencoder's, or a file is missing or damaged.
    """
    assert trial.generator is not None
    space, of = latent_space(latents), trial.generator
    try:
        tokenizer = open_tokenizer(autoencoder, world.device).eval()
    except TokenizerError as error:
        raise UserError(f"{trial.id}: {error}") from None
    known = {"the latents are": space.tokenizer["weights_sha256"], f"{autoencoder} is": tokenizer.facts.weights_sha256}
    for what, found in known.items():
        if found != weights_sha256:
            raise UserError(
                f"{trial.id}: {what} of weights {found[:12]}, its autoencoder has {weights_sha256[:12]} - submit the "
                "study again, or delete what differs"
            )
    meter = None
    if of.curve is not None:
        train, held_out = open_training_data(images, default_cache(), CACHE_BYTES)
        originals = train if of.curve.against == "train" else held_out
        meter = Meter(
            of.curve, of.sampler, originals, tokenizer.decode, world, Path(home), trial.frozen.get("inception")
        )
    return Generating(trial, world, space, tokenizer.decode, meter)


def _decides(space: LatentSpace) -> LatentSpace:
    """Without what people call the tokenizer: a version that was registered again has another name."""
    return replace(space, tokenizer={**space.tokenizer, "name": ""})


def _words(space: LatentSpace | None) -> str:
    if space is None:
        return "of nothing known"
    return f"{space.fingerprint} of {space.tokenizer['name']} (weights {space.tokenizer['weights_sha256'][:12]})"
