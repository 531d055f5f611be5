"""The training of a generator: stored latents, a time and noise for each, the velocity between them.

What travels: ids -> stored latents -> z_Bdhw, normalised -> (x_t, velocity, t, label) -> the transport loss.
Times, noise and which labels are dropped are hashes of (seed, sample, step).

Legend: B batch, d latent channels, h, w latent positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from transvae.generation import DiTConfig, LatentSpace, LightningDiT, TextDiT, TextDiTConfig
from transvae.generation import folder as generator_folder
from transvae.generation.transport import interpolate, logit_normal_times, velocity_loss
from transvae.losses.frozen import Origin
from transvae_platform.data.sets.mixture import Samples
from transvae_platform.data.stream.hashing import Purpose, keys, uniforms
from transvae_platform.data.stream.latents import ChannelScale, LatentBatch, LatentStream
from transvae_platform.data.stream.noise import normal_noise
from transvae_platform.data.stream.order import Ids
from transvae_platform.errors import UserError
from transvae_platform.evaluation.curve import Meter
from transvae_platform.evaluation.generation import Decode, Drawer, draw_images
from transvae_platform.evaluation.reconstruction import spread, write_grid
from transvae_platform.study.trial import Trial
from transvae_platform.training.initial import initial_folder, initial_space
from transvae_platform.training.task import Task
from transvae_platform.world import World

HELD_OUT_SEED, HELD_OUT_PLACE = 0, -1
"""Noise and times of held-out latents: the same at every step of every trial, and none of a training's."""


class Generating(Task[LatentBatch]):
    """A LightningDiT on the latents of one autoencoder; `text_generating.py` overrides what reads captions instead."""

    model: LightningDiT | TextDiT

    def __init__(
        self, trial: Trial, world: World, space: LatentSpace, decode: Decode, meter: Meter | None = None
    ) -> None:
        """Args:
            space: the latents that it is given; they are published with it.
            decode: of their autoencoder.
            meter: measures samples at every validation.

        Raises:
            UserError: the latents are of another resolution or content than the trial's, or of another tokenizer than
                those of what it starts from.
        """
        super().__init__(trial, world)
        assert trial.generator is not None
        space = initial_space(trial, space)
        self._of, self._space, self._decode, self._meter = trial.generator, space, decode, meter
        config = self.make_config()
        for what, expected, found in (
            ("resolution", trial.resolution, space.resolution),
            ("content", self._of.latents.content, space.content),
            ("channels", config.latent_dim, len(space.mean)),
        ):
            if found != expected:
                raise UserError(
                    f"{trial.id}: its latents have the {what} {expected}, {space.fingerprint} has {found} - extract "
                    "those of its own autoencoder"
                )
        self._scale = ChannelScale.from_values(space.mean, space.std).to(world.device)
        self.model = self.initial_model().to(world.device)
        self.model.gradient_checkpointing = trial.recipe.gradient_checkpointing
        self.network = self.make_network()

    def make_config(self) -> DiTConfig | TextDiTConfig:
        """Of the network."""
        return DiTConfig(**self.trial.model_config_values)

    def make_network(self) -> nn.Module:
        """What gradients are averaged through."""
        return self.model

    @property
    def origins(self) -> list[Origin]:
        return [self._meter.origin] if self._meter else []

    def initial_model(self) -> LightningDiT | TextDiT:
        """Drawn from the global generator, or what `downstream.start_from` names."""
        if self.trial.initial is None:
            return LightningDiT(DiTConfig(**self.trial.model_config_values), self._space)
        model = LightningDiT.from_pretrained(initial_folder(self.trial)).train()
        model.latents = self._space
        return model

    def blocks(self) -> Iterable[nn.Module]:
        return self.model.blocks

    def stream(self, train: Samples) -> LatentStream:
        trial, world = self.trial, self.world
        return self.make_stream(
            train, batch_size=trial.recipe.batch_size, seed=trial.seed, rank=world.rank, world=world.size
        )

    def make_stream(self, samples: Samples, **options: Any) -> LatentStream:
        """Latents with what the network is told beside them."""
        return LatentStream(samples, self.trial.sampling, labelled=self._classes > 1, **options)

    @property
    def _classes(self) -> int:
        return int(self.trial.model_config_values["classes"])

    def inputs(self, batch: LatentBatch, place: int) -> tuple[Tensor, ...]:
        """x_t and velocities (B, d, h, w), times (B,), labels (B,), the null label where one is dropped."""
        dropped = uniforms(Purpose.DROPOUT, self.trial.seed, batch.ids, np.full_like(batch.ids, place), 1)[:, 0]
        return self.on_path(batch, self.trial.seed, place, self.dropped(torch.from_numpy(dropped)))

    def dropped(self, uniform_B: Tensor) -> Tensor:
        """What is not told to the network, from numbers in [0, 1]; of 1 nothing is dropped. (B,) bool."""
        return uniform_B < self._of.label_dropout

    def on_path(self, batch: LatentBatch, seed: int, place: int, dropped_B: Tensor) -> tuple[Tensor, ...]:
        """What `inputs` says, for noise and times of a seed."""
        classes = self._classes
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

    def terms(self, network: nn.Module, piece: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """The terms whose sum is the loss, by name."""
        x_Bdhw, velocity_Bdhw, t_B, labels_B = piece
        with self.autocast():
            predicted_Bdhw = network(x_Bdhw, t_B, labels_B)
        loss = velocity_loss(predicted_Bdhw, velocity_Bdhw)
        return {"mse": loss.mse, "cosine": loss.cosine}

    def autocast(self) -> torch.autocast:
        """To bfloat16 where the recipe says so."""
        return torch.autocast(self.world.device.type, torch.bfloat16, enabled=self._bf16)

    @property
    def _bf16(self) -> bool:
        return self.trial.recipe.precision == "bf16"

    def backward(
        self, wrapped: nn.Module, piece: tuple[Tensor, ...], step: int, pieces: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        found = self.terms(wrapped, piece)
        total = reduce(torch.add, found.values())
        (total / pieces).backward()
        terms = {"loss": total, **found}
        return total.detach(), {name: term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def validate(self, averaged: nn.Module, held_out: Mapping[str, Samples]) -> dict[str, float]:
        """The loss on held-out latents at fixed times and noise; with a meter the distance of samples, too."""
        world, metrics, network = self.world, dict[str, float](), self.judged(averaged)
        for name, samples in held_out.items():
            ids = spread(self.trial.evaluation.images, samples)[world.rank :: world.size]
            share = max(1, self.trial.recipe.batch_size // world.size)
            stream, sums = self.make_stream(samples, batch_size=1, seed=0), dict[str, Tensor]()
            for start in range(0, len(ids), share):
                batch = stream.of(ids[start : start + share])
                kept = self.dropped(torch.ones(len(batch.ids), dtype=torch.float64))
                found = self.terms(network, self.on_path(batch, HELD_OUT_SEED, HELD_OUT_PLACE, kept))
                for term, value in {**found, "count": torch.ones_like(found["mse"])}.items():
                    sums[term] = sums.get(term, 0) + len(batch.ids) * value.double()
            metrics |= self._means(name, sums)
        if self._meter:
            metrics |= self._meter.measure(self.drawn_with(averaged), self._bf16)
        return metrics

    def _means(self, name: str, sums: dict[str, Tensor]) -> dict[str, float]:
        """Sums of one worker to means of all; one that has no samples knows no terms."""
        names = [*self.term_names, "count"]
        zero = torch.zeros((), dtype=torch.float64, device=self.world.device)
        *totals, count = self.world.sum(torch.stack([sums.get(term, zero) for term in names])).tolist()
        means = {f"{name}/{term}": total / count for term, total in zip(self.term_names, totals, strict=True)}
        return {f"{name}/loss": sum(totals) / count, **means}

    @property
    def term_names(self) -> tuple[str, ...]:
        """What `terms` names."""
        return "mse", "cosine"

    def judged(self, averaged: nn.Module) -> nn.Module:
        """The averaged model as `terms` calls it."""
        return averaged

    def drawn_with(self, averaged: nn.Module) -> Drawer:
        """The averaged model as samples are drawn with it."""
        assert isinstance(averaged, LightningDiT)
        return averaged

    def draw(self, averaged: nn.Module, samples: Samples, path: Path) -> list[float]:
        """Samples in one row."""
        write_grid([self.first_samples(averaged)], path)
        return []

    def first_samples(self, averaged: nn.Module) -> Tensor:
        """The first ones by number as 8-bit levels, (B, 3, H, W); 0 for what is not finite."""
        count = self.trial.evaluation.pictures
        few, here = self._of.sampler.model_copy(update={"batch": count}), World(device=self.world.device)
        drawer = self.drawn_with(averaged)
        (_, levels_B3HW), *_ = draw_images(drawer, self._decode, few, np.arange(count), here, self._bf16)
        return levels_B3HW.nan_to_num()

    def publish(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        generator_folder.save(folder, DiTConfig(**self.trial.model_config_values), self._space, state)

    def published(self, folder: Path) -> dict[str, Tensor]:
        kept = LightningDiT.from_pretrained(folder)
        self.refuse_other_latents(kept.latents, folder)
        return kept.state_dict()

    def refuse_other_latents(self, kept: LatentSpace | None, folder: Path) -> None:
        """Raises UserError where a checkpoint's folder says that it was trained on other latents."""
        if kept is None or _decides(kept) != _decides(self._space):
            raise UserError(
                f"{self.trial.id}: its checkpoint was trained on the latents {_words(kept)}, it is now given "
                f"{_words(self._space)} - bring those back, or delete {folder.parent.parent} to begin again"
            )


def _decides(space: LatentSpace) -> LatentSpace:
    """Without what people call the tokenizer: a version that was registered again has another name."""
    return replace(space, tokenizer={**space.tokenizer, "name": ""})


def _words(space: LatentSpace | None) -> str:
    if space is None:
        return "of nothing known"
    return f"{space.fingerprint} of {space.tokenizer['name']} (weights {space.tokenizer['weights_sha256'][:12]})"
