"""The training of a text-to-image generator: stored latents with captions; noise or velocity is predicted.

What travels: ids -> stored latents and captions -> z_Bdhw, normalised, and tokens of a frozen text encoder
-> (x_t, target, t, text) -> the loss. With `text.editing` the latents that samples are edits of come with them. Times,
noise and what is dropped are hashes of (seed, sample, step).

Legend: B batch, L tokens, E text channels, d latent channels, h, w latent positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from transvae.generation import LatentSpace, TextDiT, TextDiTConfig
from transvae.generation import folder as generator_folder
from transvae.generation.diffusion import add_noise, noise_loss
from transvae.generation.folder import TextConditions
from transvae.generation.text import Text, TextEncoder
from transvae.generation.text_dit import for_editing
from transvae.generation.text_guidance import drop_for_editing
from transvae.generation.transport import interpolate, logit_normal_times, velocity_loss
from transvae_platform.data.sets.mixture import Samples
from transvae_platform.data.stream.hashing import Purpose, uniforms
from transvae_platform.data.stream.latents import LatentBatch, LatentStream, captions_of
from transvae_platform.data.stream.noise import normal_noise
from transvae_platform.data.stream.order import Ids
from transvae_platform.errors import UserError
from transvae_platform.evaluation.curve import Meter
from transvae_platform.evaluation.generation import Decode
from transvae_platform.evaluation.prompted import Prompted, on
from transvae_platform.evaluation.reconstruction import spread, to_8bit, write_grid
from transvae_platform.study.trial import Trial
from transvae_platform.training.generating import Generating
from transvae_platform.training.initial import initial_folder
from transvae_platform.world import World

MOST_CAPTIONS = 10_000
"""Held-out captions that samples are drawn for (assumption: as many as the samples of a curve)."""
GREY = 128.0  # of 8-bit levels


class Reading(nn.Module):
    """One module, because the gradients of one module are averaged over workers: the network and its null text."""

    def __init__(self, model: TextDiT) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, x_Bdhw: Tensor, t_B: Tensor, text: Text, dropped_B: Tensor, source_Bdhw: Tensor | None = None
    ) -> Tensor:
        answer: Tensor = self.model(x_Bdhw, t_B, self.model.without(text, dropped_B), source_Bdhw)
        return answer


class TextGenerating(Generating):
    """A TextDiT on the latents of one autoencoder and the captions of their images."""

    def __init__(
        self, trial: Trial, world: World, space: LatentSpace, decode: Decode, encoder: TextEncoder, held_out: Samples,
        meter: Meter | None = None,
    ) -> None:  # fmt: skip
        """Args:
            encoder: of captions.
            held_out: latents whose captions samples are drawn for.

        Raises:
            UserError: as `Generating`; the encoder has other channels than the network reads; a caption is missing.
        """
        assert trial.generator is not None
        assert trial.generator.text is not None
        self._spec, self._encoder = trial.generator.text, encoder
        self._schedule = self._spec.noise.schedule() if self._spec.objective == "noise" else None
        self._kept_T = self._schedule.kept() if self._schedule else torch.ones(1)
        self._conditions = TextConditions(self._spec.encoder, encoder.identity, self._spec.objective, self._schedule)
        if encoder.channels != trial.model_config_values["text_dim"]:
            raise UserError(
                f"{trial.id}: the text encoder {self._spec.encoder} has {encoder.channels} channels, the network reads "
                f"{trial.model_config_values['text_dim']} - give another folder, or submit under a new name"
            )
        super().__init__(trial, world, space, decode, meter)
        asked = spread(MOST_CAPTIONS, held_out)
        self._captions = captions_of(held_out, asked)
        self._sources = self._given(held_out, asked) if self._spec.editing else None

    def make_config(self) -> TextDiTConfig:
        return TextDiTConfig(**self.trial.model_config_values)

    def make_network(self) -> nn.Module:
        assert isinstance(self.model, TextDiT)
        return Reading(self.model)

    def initial_model(self) -> TextDiT:
        """As of `Generating`; with editing a network that was trained without gets source channels of weight zero.

        Raises:
            UserError: what it starts from reads another text encoder.
        """
        if self.trial.initial is None:
            return TextDiT(self.make_config(), self._space, self._conditions)
        folder = initial_folder(self.trial)
        model = TextDiT.from_pretrained(folder)
        if model.conditions is None or dict(model.conditions.encoder) != self._encoder.identity:
            raise UserError(
                f"{self.trial.id}: downstream.start_from: {folder} reads the text encoder "
                f"{model.conditions and dict(model.conditions.encoder)}, not {self._encoder.identity} - give that one "
                "as downstream.text.encoder"
            )
        if self._spec.editing and not model.config.editing:
            model = for_editing(model)
        model.latents, model.conditions = self._space, self._conditions
        return model.train()

    def make_stream(self, samples: Samples, **options: Any) -> LatentStream:
        edits = self._spec.editing is not None
        return LatentStream(samples, self.trial.sampling, labelled=False, captioned=True, edits=edits, **options)

    def _given(self, samples: Samples, ids: Ids) -> Callable[[Ids], Tensor]:
        """The sources for the captions of these samples, by a caption's number; zeros for what is no edit."""
        stream = self.make_stream(samples, batch_size=1, seed=0)
        return lambda numbers: self._source(stream.of(ids[numbers]))

    def _source(self, batch: LatentBatch) -> Tensor:
        assert batch.sources is not None
        assert batch.edited is not None
        source_Bdhw = self._scale.normalise(batch.sources)
        return source_Bdhw * batch.edited.to(source_Bdhw)[:, None, None, None]

    def dropped(self, uniform_B: Tensor) -> Tensor:
        """Captions; with editing (2, B): captions and sources."""
        if self._spec.editing is None:
            return super().dropped(uniform_B)
        return torch.stack(drop_for_editing(uniform_B, self._of.label_dropout / 2))

    def on_path(self, batch: LatentBatch, seed: int, place: int, dropped_B: Tensor) -> tuple[Tensor, ...]:
        """x_t and targets (B, d, h, w), times (B,), tokens (B, L, E), their mask (B, L), dropped captions (B,).

        With editing sources (B, d, h, w), too, zeros where there is none or it is dropped.
        """
        z_Bdhw, _ = self._scale.model_input(batch)
        device, shape = z_Bdhw.device, tuple(z_Bdhw.shape[1:])
        noise_Bdhw = normal_noise(self._owners(Purpose.PATH, seed, batch.ids, place), shape)
        if self._schedule is not None:
            uniform = uniforms(Purpose.TIME, seed, batch.ids, np.full_like(batch.ids, place), 1)[:, 0]
            step_B = self._schedule.drawn(torch.from_numpy(uniform))
            x_Bdhw = add_noise(z_Bdhw, noise_Bdhw, self._kept_T[step_B].to(device))
            t_B, target_Bdhw = step_B.to(device, torch.float32), noise_Bdhw
        else:
            normal_B1 = normal_noise(self._owners(Purpose.TIME, seed, batch.ids, place), (1,))
            t_B = logit_normal_times(normal_B1[:, 0])
            x_Bdhw, target_Bdhw = interpolate(z_Bdhw, noise_Bdhw, t_B)
        text = on(self._encoder.encode(batch.captions), device)
        told = x_Bdhw, target_Bdhw, t_B, text.tokens, text.mask
        if self._spec.editing is None:
            return *told, dropped_B.to(device)
        no_text_B, no_source_B = dropped_B.to(device)
        return *told, no_text_B, self._source(batch) * ~no_source_B[:, None, None, None]

    def terms(self, network: nn.Module, piece: tuple[Tensor, ...]) -> dict[str, Tensor]:
        x_Bdhw, target_Bdhw, t_B, tokens_BLE, mask_BL, *dropped_and_source = piece
        with self.autocast():
            predicted_Bdhw = network(x_Bdhw, t_B, Text(tokens_BLE, mask_BL), *dropped_and_source)
        if self._schedule is not None:
            return {"mse": noise_loss(predicted_Bdhw, target_Bdhw)}
        loss = velocity_loss(predicted_Bdhw, target_Bdhw)
        return {"mse": loss.mse, "cosine": loss.cosine}

    @property
    def term_names(self) -> tuple[str, ...]:
        return ("mse", "cosine") if self._schedule is None else ("mse",)

    def judged(self, averaged: nn.Module) -> nn.Module:
        assert isinstance(averaged, TextDiT)
        return Reading(averaged)

    def drawn_with(self, averaged: nn.Module) -> Prompted:
        assert isinstance(averaged, TextDiT)
        return Prompted(averaged, self._spec, self._encoder, self._captions, self._sources)

    @torch.no_grad()
    def draw(self, averaged: nn.Module, samples: Samples, path: Path) -> list[float]:
        """Samples in one row; with editing what they are edits of in another above it, grey where they are of none."""
        rows = [self.first_samples(averaged)]
        if self._sources is not None:
            numbers = np.arange(len(rows[0])) % len(self._captions)
            source_Bdhw = self._sources(numbers)
            shown_B3HW = to_8bit(self._decode(self._scale.restore(source_Bdhw)).float())
            is_edit_B = source_Bdhw.flatten(1).any(1)
            rows.insert(0, torch.where(is_edit_B[:, None, None, None], shown_B3HW, GREY).nan_to_num())
        write_grid(rows, path)
        return []

    def publish(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        generator_folder.save_text(folder, self.make_config(), self._space, self._conditions, state)

    def published(self, folder: Path) -> dict[str, Tensor]:
        kept = TextDiT.from_pretrained(folder)
        self.refuse_other_latents(kept.latents, folder)
        if kept.conditions is None or replace(kept.conditions, name="") != replace(self._conditions, name=""):
            raise UserError(
                f"{self.trial.id}: its checkpoint was trained with the text encoder "
                f"{kept.conditions and dict(kept.conditions.encoder)}, it is now given {self._encoder.identity} - "
                f"bring that back, or delete {folder.parent.parent} to begin again"
            )
        return kept.state_dict()
