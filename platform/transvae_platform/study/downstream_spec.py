"""The downstream section of a study file: generators trained on the latents of the study's own autoencoders.

Defaults are LightningDiT's, whose settings the paper follows (section 4.1), where its published code states them.
"""

from __future__ import annotations

import fnmatch
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from transvae_platform.study.evaluation_spec import NO_RESULT, Evaluation
from transvae_platform.study.losses_spec import Losses
from transvae_platform.study.rate_rules import Rate, Steps
from transvae_platform.study.recipe_spec import GuardLimits, TrialRecipe
from transvae_platform.study.section import MOST, Code, Name, Section, Seed
from transvae_platform.study.text_spec import TextSpec
from transvae_platform.study.workers_spec import Workers

MOST_DROPPED = 2 / 3  # with editing, where half of it is dropped three times


class Latents(Section):
    """What an autoencoder makes of the images, once, before generators train on it."""

    content: Literal["sample", "mean"] = "sample"
    """`sample`: one draw of the posterior (LightningDiT), or its `mean`."""
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    """How latents are stored (LightningDiT: float32; half of it moves no FID that was measured: assumption)."""
    seed: Seed = 0
    """Of the samples' noise."""
    flip: bool = True
    """Take the latent of the mirrored image for half of the samples (LightningDiT)."""


class GeneratorValues(Section):
    """What an override may change for some generators; unset fields keep the recipe's value."""

    steps: Annotated[int, Field(ge=1, le=MOST)] | None = None
    """Optimiser steps."""
    batch_size: Annotated[int, Field(ge=1, le=MOST)] | None = None
    """Global batch in latents."""
    learning_rate: Rate | None = None
    """After the warm-up."""
    gradient_checkpointing: bool | None = None
    """Whether activations are recomputed."""
    source: str | None = None
    """Where the values come from; decides nothing."""


class GeneratorRecipe(Section):
    """How generators are trained."""

    steps: Annotated[int, Field(ge=1, le=MOST)]
    """Optimiser steps (LightningDiT: 80 000 are 64 epochs of ImageNet; paper: 160 epochs, XL/1 80)."""
    batch_size: Annotated[int, Field(ge=1, le=MOST)] = 1024
    """Global batch in latents (LightningDiT)."""
    learning_rate: Rate = 2e-4
    """Constant after the warm-up (LightningDiT, paper)."""
    warmup_steps: Steps = 0
    """Linear warm-up (LightningDiT: none)."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.95)
    """AdamW betas (LightningDiT)."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """AdamW weight decay (LightningDiT: none)."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Clip the global gradient norm (LightningDiT: in no published configuration; its author's advice against NaN)."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9999
    """Decay of the weight average that samples and is registered (LightningDiT; warms up over the first steps)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 = autocast to bfloat16 with fp32 weights and losses (LightningDiT trains so)."""
    gradient_checkpointing: bool = False
    """Recompute activations block by block in the backward pass."""
    compile: bool = False
    """torch.compile, block by block."""
    label_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of labels that training replaces by the null label, which guidance needs (LightningDiT); with `text`, of
    captions by the null text (the guide's configuration: 0.1)."""
    guard: GuardLimits = GuardLimits()
    overrides: dict[str, GeneratorValues] = Field(default_factory=dict)
    """Values for some generators: a pattern over their names such as `XL/*`, later ones win."""

    def of(self, name: str) -> GeneratorRecipe:
        """The recipe of one generator, with the overrides applied."""
        values: dict[str, Any] = {"overrides": {}}
        for pattern, override in self.overrides.items():
            if fnmatch.fnmatchcase(name, pattern):
                values |= override.model_dump(exclude={"source"}, exclude_none=True)
        return self.model_copy(update=values)

    def resolve(self) -> TrialRecipe:
        """As the recipe of a trial: of losses it has none but the objective of generators."""
        values = self.model_dump(exclude={"label_dropout", "overrides"})
        return TrialRecipe.model_validate({**values, "losses": Losses(), "channels_last": False})


class GuidanceSpec(Section):
    """Classifier-free guidance, as LightningDiT applies it."""

    scale: Annotated[float, Field(gt=1)]
    """v = v_null + scale (v_label - v_null) (LightningDiT: 10.0 after 64 epochs, 6.7 after 800)."""
    start: Annotated[float, Field(ge=0, le=1)] = 0.11
    """Labels are not guided before this time (LightningDiT)."""
    channels: Annotated[int, Field(ge=1)] | None = 3
    """The first channels that are guided; null: all (LightningDiT: 3)."""


class SamplerSpec(Section):
    """How latents are drawn: with these values a sample is a function of its number."""

    method: Literal["euler", "dopri5"] = "euler"
    """`euler` with a time shift for final numbers, `dopri5` for curves (LightningDiT's author); never both in one."""
    times: Annotated[int, Field(ge=2, le=10_000)] = 250
    """Of `euler`: points in time, one fewer evaluations (LightningDiT)."""
    shift: Annotated[float, Field(gt=0)] = 0.3
    """Of `euler`: t' = s t / (1 + (s - 1) t) (LightningDiT)."""
    guidance: GuidanceSpec | None = None
    """None samples without guidance, as the paper's figure 6 does."""
    labels: Literal["random", "balanced"] = "random"
    """Uniformly at random (LightningDiT), or each class equally often (RAE; about 0.1 lower FID)."""
    seed: Seed = 0
    """Of noise and labels: the same for all trials."""
    batch: Annotated[int, Field(ge=1, le=4096)] = 64
    """Samples drawn together; `dopri5` chooses its steps for all of them (assumption: 64 fill a GPU)."""


class Curve(Section):
    """The Fréchet distance of samples along the training, at every validation."""

    samples: Annotated[int, Field(ge=2, le=2**19)] = 10_000
    """How many are drawn (paper, figure 6: FID-10k)."""
    inception: Literal["pretrained", "random"] = "pretrained"
    """Random weights give a distance that is no FID, and is called `gfid_random`."""
    extractor: Literal["torch-fidelity", "pytorch-fid"] = "torch-fidelity"
    """How images reach Inception (torch-fidelity: as ADM's evaluator sees them)."""
    against: Literal["train", "validation"] = "train"
    """The split of the data set whose images samples are compared with (ADM's reference: all training images)."""
    originals: Annotated[int, Field(ge=2, le=2**19)] = 50_000
    """How many of them at most, spread evenly over the split (assumption; sums beyond 2^19 features are not exact)."""


class TokenizerSource(Section):
    """A tokenizer that the study does not train."""

    model: str
    """`models:/NAME@best`, a folder or file that all nodes see, or a published name such as `flux-vae`
    (`transvae.tokenizers`)."""
    code: Code
    """Its spatial compression and channels, e.g. `f8d16`; a tokenizer of another code is refused."""


class Downstream(Section):
    """Generators of every autoencoder of the grid: (VAE x generator) trials, each after its VAE is registered."""

    generators: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]+/[1-9]\d*$")], ...], Field(min_length=1)
    ]
    """Sizes with their patches, e.g. `[B/1, XL/1]` or `[micro-S/1]`."""
    vaes: tuple[str, ...] = ("*",)
    """Patterns over the autoencoders' names (`transvae-T`, `transvae-T-no-vf`): whose latents are trained on; `[]`:
    those of `tokenizers` alone."""
    tokenizers: dict[Name, TokenizerSource] = Field(default_factory=dict)
    """Further tokenizers whose latents generators are trained on, by the name that their trials bear."""
    text: TextSpec | None = None
    """Generators read the images' captions instead of their labels; none without this section."""
    classes: Annotated[int, Field(ge=1, le=MOST)] = 1000
    """Labels are 0 to classes - 1 (ImageNet: 1000). 1: labels are not read, all images are of one class."""
    start_from: str | None = None
    """Generators to start from instead of random weights: `models:/NAME@alias`, or a folder; `{model}` stands for the
    name of each (`t2i-B-1-on-vae`). They are of the same network and were trained on latents of the same one of
    `tokenizers`, whose normalisation is kept; one without `text.editing` gets channels for sources, of weight zero."""
    qk_norm: bool = False
    """RMSNorm of queries and keys (LightningDiT: off; its author: against divergence after 200 epochs, at some FID)."""
    latents: Latents = Latents()
    recipe: GeneratorRecipe
    evaluation: Evaluation = Evaluation()
    """When generators are validated, on so many held-out latents; `pictures` are samples."""
    sampler: SamplerSpec = SamplerSpec()
    """How pictures and the samples of the curve are drawn."""
    curve: Curve | None = None
    """Measure samples at every validation, too; none without this section."""
    resources: Workers | None = None
    """Of every generator trial; by default those of `resources`."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Downstream:
        if len(set(self.generators)) != len(self.generators):
            raise ValueError(f"generators names one twice: {list(self.generators)}")
        if not self.vaes and not self.tokenizers:
            raise ValueError("vaes: none, and no tokenizers: there are no latents to train on - name one of either")
        if self.evaluation.sets:
            raise ValueError("evaluation.sets are for autoencoders - remove them")
        for pattern in self.recipe.overrides:
            if not fnmatch.filter(self.generators, pattern):
                raise ValueError(f"recipe.overrides: {pattern!r} matches none of {', '.join(self.generators)}")
        for name in self.generators:
            steps = self.recipe.of(name).steps
            if late := [step for step in self.evaluation.at if step > steps]:
                raise ValueError(f"evaluation.at: {late[0]} is beyond the {steps} steps of {name}")
            if self.recipe.warmup_steps >= steps:
                raise ValueError(f"recipe.warmup_steps: not below the {steps} steps of {name} - shorten it")
        if self.text:
            self._refuse_idle_with(self.text)
        if self.sampler.guidance and not self.recipe.label_dropout:
            raise ValueError(
                "sampler.guidance: without recipe.label_dropout no null label is trained, guidance needs it - "
                "give a share, or sample without guidance"
            )
        return self

    def _refuse_idle_with(self, text: TextSpec) -> None:
        idle = {
            "classes": self.classes != 1000, "qk_norm": self.qk_norm, "sampler.guidance": self.sampler.guidance,
            "sampler.labels": self.sampler.labels != "random",
        }  # fmt: skip
        for key, given in idle.items():
            if given:
                raise ValueError(f"{key}: is for classes, these generators read captions - remove it or `text`")
        if text.objective == "velocity" and text.noise != TextSpec().noise:
            raise ValueError("text.noise: the objective is velocity, nothing reads it - remove it")
        guided = {"text.guidance": text.guidance, "text.editing.guidance": text.editing.guidance if text.editing else 1}
        for key, scale in guided.items():
            if scale > 1 and not self.recipe.label_dropout:
                raise ValueError(
                    f"{key}: without recipe.label_dropout no null text is trained, guidance needs it - give a "
                    f"share, or set {key} to 1"
                )
        if text.editing and self.recipe.label_dropout > MOST_DROPPED:
            raise ValueError(
                f"recipe.label_dropout: with text.editing half as much again drops the source alone, so it is at most "
                f"2/3, not {self.recipe.label_dropout}"
            )

    def decides(self, name: str) -> dict[str, Any]:
        """What decides the result of a generator beside its latents, its network and its seed."""
        values = self.model_dump(mode="json", exclude={"generators", "vaes", "tokenizers", "start_from", "resources"})
        for key in ("sets", *NO_RESULT):
            del values["evaluation"][key]
        if self.text is None:  # these keys came later: studies that were begun before go on
            del values["text"]
        elif self.text.editing is None:
            del values["text"]["editing"]
        return {**values, "recipe": self.recipe.of(name).model_dump(mode="json", exclude={"overrides"})}


class Generator(Section):
    """What makes a trial one of a generator."""

    autoencoder: str | None
    """The trial whose latents it is trained on;"""
    tokenizer: TokenizerSource | None
    """or what else made them."""
    latents: Latents
    label_dropout: float
    sampler: SamplerSpec
    curve: Curve | None
    text: TextSpec | None = None
