"""The recipe section of a study file: the objective, the stages, the optimiser.

Where the paper, its README and the code that it follows (VA-VAE) differ, every contested value is a key, its default is
the paper's, and its docstring names the source.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from transvae_platform.study.losses_spec import Losses
from transvae_platform.study.rate_rules import (
    Rate,
    RateRule,
    Steps,
    WarmupRule,
    learning_rate,
    warmup_steps,
)
from transvae_platform.study.section import MOST, Section
from transvae_platform.study.semantic_spec import PixelStage, Semantic


class DecoderStage(Section):
    """Stage 2: the encoder is frozen, the decoder learns on (paper, appendix D: the last 10 of 110 epochs, with a GAN).

    It begins from the averaged weights, which are what is validated and registered, with fresh moments.
    """

    steps: Annotated[int, Field(ge=1, le=MOST)]
    """The last this many of the recipe's steps; all of them for a trial that starts from a registered model."""
    learning_rate: Rate | None = None
    """Of the decoder in this stage; by default the recipe's."""
    warmup_steps: Steps = 0
    """Linear warm-up of this stage (assumption: the sources name none)."""


class GuardLimits(Section):
    """What counts as a bad step, and what follows; see `training/guard.py`. A loss that is not finite always is one."""

    sigma: Annotated[float, Field(gt=0)] = 6.0
    """A loss above mean + sigma x deviation of the last good steps is an outlier (OLMo-core's SkipStepOptimizer: 6)"""
    factor: Annotated[float, Field(ge=1)] = 2.0
    """if it is also above factor x their mean (llm-foundry's KillLossSpike: 2)."""
    window: Annotated[int, Field(ge=2, le=MOST)] = 128
    """How many good steps a loss is compared with (OLMo-core: 128)."""
    after: Annotated[int, Field(ge=2, le=MOST)] = 64
    """No loss is an outlier before this many good steps (OLMo-core: half a window)."""
    patience: Steps = 4
    """Bad steps in a row that are skipped; one more and the trial is taken back (llm-foundry: 4)."""
    rewinds: Annotated[int, Field(ge=0, le=100)] = 2
    """How often a trial goes back to a checkpoint, each time to other data, before it fails (assumption)."""


class RecipeValues(Section):
    """What an override may change for some models; unset fields keep the recipe's value."""

    steps: Annotated[int, Field(ge=1, le=MOST)] | None = None
    batch_size: Annotated[int, Field(ge=1, le=MOST)] | None = None
    learning_rate: RateRule | None = None
    warmup_steps: WarmupRule | None = None
    weight_decay: Annotated[float, Field(ge=0, le=1)] | None = None
    source: str | None = None
    """Where the values come from; decides nothing."""


class Recipe(Section):
    """How every model is trained; `overrides` changes values for models whose name matches a pattern."""

    steps: Annotated[int, Field(ge=1, le=MOST)]
    """Optimiser steps per trial, both stages together."""
    batch_size: Annotated[int, Field(ge=1, le=MOST)]
    """Global batch size in images, shared by all workers of a trial."""
    learning_rate: RateRule
    """Peak learning rate of AdamW (paper, appendix D: 1e-4 at batch 256): a number; `{rate, at_batch, scaling}`, which
    follows the batch size; or `{calibrated: STUDY}`, the best rate that a calibration study found."""
    warmup_steps: WarmupRule = 1000
    """Linear warm-up from 0 (paper, appendix D: 1000; section 3.4's 10 000 would be most of its 15 013 steps):
    steps, or `{images: N}`."""
    schedule: Literal["constant", "cosine"] = "constant"
    """After the warm-up: constant (paper, appendix D), or cosine to zero at the last step of the stage."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.5, 0.9)
    """AdamW betas (VA-VAE's published code: 0.5, 0.9; the paper does not state them)."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """AdamW weight decay (paper, appendix D: none)."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Clip the global gradient norm to this value; none by default (VA-VAE; the paper's README: 1.0 above 1B)."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the weight average that is evaluated and registered (assumption; warms up over the first steps)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 = autocast to bfloat16 with fp32 weights; losses and posterior stay in fp32."""
    gradient_checkpointing: bool = False
    """Recompute activations block by block in the backward pass: less memory, about a third more compute."""
    compile: bool = False
    """torch.compile, block by block: faster steps after minutes of compiling; results differ in their last digits."""
    channels_last: bool = True
    """Weights of convolutions in channels_last memory order: on a CPU micro models are up to a quarter faster with it,
    CNN-T is a seventh faster without it (128 pixels, one image: its gradients are copied from one order into the
    other). Weights in parts (`resources.sharding: fsdp`) cannot have it. Images have it in any case."""
    losses: Losses = Losses()
    decoder_stage: DecoderStage | None = None
    """Stage 2, with a frozen encoder; none without this section."""
    semantic: Semantic | None = None
    """The objective and the stages of `s-vae`, `ps-vae` and `rae`, which read neither `losses` nor `decoder_stage`."""
    start_from: str | None = None
    """A registered model that every trial starts from, e.g. `models:/figure5-{model}@best`; `{model}` stands for the
    trial's family and size."""
    guard: GuardLimits = GuardLimits()
    overrides: dict[str, RecipeValues] = Field(default_factory=dict)
    """Values for some models: a pattern over `family-size` such as `cnn-*` or `transvae-G`, later ones win."""

    def resolve(self, cell: str, rates: Mapping[str, float]) -> TrialRecipe:
        """The recipe of one `family-size` in numbers: the overrides were applied, the rules are now.

        Args:
            rates: what the calibration study that `learning_rate` names found, by `family-size`.

        Raises:
            SpecError: it found none for this model.
        """
        values = {
            "learning_rate": learning_rate(self.learning_rate, self.batch_size, cell, rates),
            "warmup_steps": warmup_steps(self.warmup_steps, self.batch_size),
            "overrides": {},
        }
        return TrialRecipe.model_validate(self.model_dump() | values)


class TrialRecipe(Recipe):
    """The recipe of one trial: numbers only."""

    learning_rate: Rate
    warmup_steps: Steps

    @property
    def second_stage(self) -> DecoderStage | PixelStage | None:
        """What the last steps are, if they are of another stage than the first."""
        return self.decoder_stage or (self.semantic.pixel_stage if self.semantic else None)

    @property
    def stage_edge(self) -> int:
        """The step at which the second stage begins; the recipe's steps where there is none."""
        return self.steps - (self.second_stage.steps if self.second_stage else 0)

    @property
    def gan_start(self) -> int:
        """The step at which the discriminator begins to learn (with `losses.gan`)."""
        assert self.losses.gan is not None
        if self.losses.gan.start is not None:
            return self.losses.gan.start
        return self.stage_edge if self.decoder_stage else 0

    def contradictions(self, family: str) -> list[str]:
        """What cannot work together in a family's recipe, overrides applied: key, reason and way out of each."""
        found, second = [], "semantic.pixel_stage" if self.semantic else "decoder_stage"
        stages = [("warmup_steps", self.warmup_steps, self.stage_edge)]
        if self.second_stage:
            stages.append((f"{second}.warmup_steps", self.second_stage.warmup_steps, self.second_stage.steps))
        found += [
            f"{key}: {warmup} is not below the {steps} steps, all would be warm-up - shorten it or train longer"
            for key, warmup, steps in stages
            if warmup >= steps > 0
        ]
        if self.stage_edge < 0:
            found.append(f"{second}.steps: more than the {self.steps} steps of the recipe - they are its last")
        return found + (self.semantic.contradictions(family) if self.semantic else self._contradictions_of_losses())

    def _contradictions_of_losses(self) -> list[str]:
        found, losses = [], self.losses
        if not (losses.l1 or (losses.lpips and losses.lpips.weight)):
            found.append("losses: neither l1 nor lpips has a weight, nothing would teach the decoder - give one")
        if self.stage_edge == 0 and self.start_from is None:
            found.append("decoder_stage.steps: all steps with an encoder that nothing trained - name start_from")
        if self.stage_edge <= 0 and losses.vf:
            found.append("losses.vf: acts on the encoder, which is frozen in all steps - remove it")
        if losses.gan and self.gan_start + losses.gan.alone >= self.steps:
            found.append(
                f"losses.gan: the decoder would hear of it at step {self.gan_start + losses.gan.alone} of {self.steps} "
                "- lower start or alone, or train longer"
            )
        return found
