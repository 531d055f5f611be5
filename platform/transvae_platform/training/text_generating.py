"""The training of a text-to-image generator: stored latents with captions; noise or velocity is predicted.

What travels: ids -> stored latents and captions -> z_Bdhw, normalised, and tokens of a frozen text encoder
-> (x_t, target, t, text) -> the loss. Times, noise and which captions are dropped are hashes of (seed, sample, step).

Legend: B batch, L tokens, E text channels, d latent channels, h, w latent positions.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from transvae.generation.transport import interpolate, logit_normal_times, velocity_loss
from transvae_platform.data.sets.mixture import Samples
from transvae_platform.data.stream.hashing import Purpose, uniforms
from transvae_platform.data.stream.latents import LatentBatch, LatentStream, captions_of
from transvae_platform.data.stream.noise import normal_noise
from transvae_platform.errors import UserError
from transvae_platform.evaluation.curve import Meter
from transvae_platform.evaluation.generation import Decode
from transvae_platform.evaluation.prompted import Prompted, on
from transvae_platform.evaluation.reconstruction import spread
from transvae_platform.study.trial import Trial
from transvae_platform.training.generating import Generating
from transvae_platform.world import World

MOST_CAPTIONS = 10_000
"""Held-out captions that samples are drawn for (assumption: as many as the samples of a curve)."""


class Reading(nn.Module):
    """One module, because the gradients of one module are averaged over workers: the network and its null text."""

    def __init__(self, model: TextDiT) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_Bdhw: Tensor, t_B: Tensor, text: Text, dropped_B: Tensor) -> Tensor:
        answer: Tensor = self.model(x_Bdhw, t_B, self.model.without(text, dropped_B))
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
        self._captions = captions_of(held_out, spread(MOST_CAPTIONS, held_out))
        super().__init__(trial, world, space, decode, meter)

    def make_config(self) -> TextDiTConfig:
        return TextDiTConfig(**self.trial.model_config_values)

    def make_network(self) -> nn.Module:
        assert isinstance(self.model, TextDiT)
        return Reading(self.model)

    def initial_model(self) -> TextDiT:
        return TextDiT(self.make_config(), self._space, self._conditions)

    def make_stream(self, samples: Samples, **options: Any) -> LatentStream:
        return LatentStream(samples, self.trial.sampling, labelled=False, captioned=True, **options)

    def on_path(self, batch: LatentBatch, seed: int, place: int, dropped_B: Tensor) -> tuple[Tensor, ...]:
        """x_t and targets (B, d, h, w), times (B,), tokens (B, L, E), their mask (B, L), dropped captions (B,)."""
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
        return x_Bdhw, target_Bdhw, t_B, text.tokens, text.mask, dropped_B.to(device)

    def terms(self, network: nn.Module, piece: tuple[Tensor, ...]) -> dict[str, Tensor]:
        x_Bdhw, target_Bdhw, t_B, tokens_BLE, mask_BL, dropped_B = piece
        with self.autocast():
            predicted_Bdhw = network(x_Bdhw, t_B, Text(tokens_BLE, mask_BL), dropped_B)
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
        return Prompted(averaged, self._spec, self._encoder, self._captions)

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
