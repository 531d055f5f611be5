"""Text in a study's generators: captions instead of classes, and what is predicted from them.

Defaults are the PS-VAE guide's; where it is open or contradicts itself the docstring says what was chosen, and from
where.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from transvae.generation.noise_schedule import NoiseSchedule
from transvae_platform.study.section import Section


class Noise(Section):
    """Noise prediction (DDPM), sampled by DDIM at sigma 0."""

    steps: Annotated[int, Field(ge=2, le=100_000)] = 1000
    """T (guide, DDPM)."""
    first: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    """Beta of the first step (guide, DDPM),"""
    last: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """and of the last."""
    kind: Literal["linear", "scaled_linear"] = "linear"
    """The guide's "scaled linear" between DDPM's bounds mixes two schedules: DDPM's betas rise linearly; of latent
    diffusion's the roots do, from 0.00085 to 0.012."""
    draw: Literal["all", "all_but_last"] = "all"
    """Which steps are trained: all T (the guide's formula), or `all_but_last` (its code)."""
    sampled: Annotated[int, Field(ge=1, le=100_000)] = 50
    """Steps of DDIM (the guide's configuration; its loop runs all T)."""
    spacing: Literal["trailing", "leading"] = "trailing"
    """From the last step, where only noise is left (Lin et al. 2024), or to the first (DDIM)."""

    @model_validator(mode="after")
    def _rises_and_has_the_steps(self) -> Noise:
        self.schedule()
        if self.sampled > self.steps:
            raise ValueError(f"sampled: {self.sampled} steps of a schedule of {self.steps} - lower it")
        return self

    def schedule(self) -> NoiseSchedule:
        """As the networks' code takes it. Raises ValueError for betas that fall."""
        return NoiseSchedule(self.steps, self.first, self.last, self.kind, self.draw)


class Editing(Section):
    """Instruction editing (InstructPix2Pix): the latent of the image that a sample is an edit of joins the noisy one.

    Samples that are no edits see zeros there, so one network draws from text and edits. Of `recipe.label_dropout` half
    drops the text alone and half both; as often again the source alone is dropped (InstructPix2Pix, section 3.2.1).
    """

    guidance: Annotated[float, Field(ge=1)] = 1.5
    """Towards the source image (InstructPix2Pix, section 3.2.1); 1: none."""


class TextSpec(Section):
    """Generators that read the captions of the images."""

    encoder: str = "t5-v1_1-xxl"
    """`t5-v1_1-SIZE` of the hub (guide: XXL), a folder of T5's files that all nodes see, or `hashed-CHANNELS`: fixed
    vectors of words, which know no meaning, for tests and micro studies."""
    objective: Literal["noise", "velocity"] = "noise"
    """`noise`: DDPM (guide); `velocity`: the rectified flow of the other generators, drawn by `sampler`."""
    noise: Noise = Noise()
    """Of the objective `noise`."""
    blocks: Literal["guide", "lightning"] = "guide"
    """LayerNorm, GELU, learned positions (guide), or LightningDiT's RMSNorm, SwiGLU, rotation."""
    modulation: Literal["zero", "plain"] = "zero"
    """Shift, scale and gate, zero at first (DiT; the guide's gated residual), or shift and scale (its formula)."""
    guidance: Annotated[float, Field(ge=1)] = 7.5
    """Classifier-free guidance on all channels at all times (guide); 1: none. It needs the null text that
    `recipe.label_dropout` trains."""
    editing: Editing | None = None
    """Train on edits, too: images whose captions are instructions of how to make them from another one. The lines of
    `data.captions` name that one as `source`, or `data.edits` the columns of both."""
