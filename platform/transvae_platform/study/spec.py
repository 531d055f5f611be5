"""The study file as typed, frozen and strict objects; `load.py` reads them from YAML, `grid.py` turns them into trials.

Every field's docstring becomes the description in the JSON schema that editors use.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from transvae_platform.study.data_spec import Data
from transvae_platform.study.section import MOST, Name, Section, Seed

Family = Literal["transvae", "cnn", "vit", "swin"]
Size = Literal["T", "B", "L", "H", "G", "giant_printed"]


class Expected(Section):
    """What the study should show if its source is right: written down before the run."""

    outcome: str
    """The expected result in one or two sentences, with numbers where the source gives them."""
    source: str
    """Where the expectation comes from: paper section, figure or table, or 'assumption'."""


class Grid(Section):
    """families x sizes x seeds x variants; every combination is one trial."""

    families: Annotated[dict[Family, Annotated[tuple[Size, ...], Field(min_length=1)]], Field(min_length=1)]
    """The sizes to train of each family, e.g. `transvae: [T, B, L]`."""
    ladder: Literal["paper", "micro"] = "paper"
    """Which size tables: the paper's (tables 3-6) or the micro ladder for laptop-sized machines."""
    code: Annotated[str, StringConstraints(pattern=r"^f\d+d\d+$")] = "f16d32"
    """Latent code: spatial compression f and channels d, e.g. `f16d32`."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    """One trial per seed; a seed sets initial weights, data order, augmentation and latent noise."""
    variants: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)] = Field(default={"base": {}})
    """Named changes of the model configuration (ablation switches), e.g. `no-rope: {position: none}`."""

    @model_validator(mode="after")
    def _no_repeats(self) -> Grid:
        for family, sizes in self.families.items():
            if len(set(sizes)) != len(sizes):
                raise ValueError(f"families.{family} names a size twice: {list(sizes)}")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds names a seed twice: {list(self.seeds)}")
        return self


class RecipeValues(Section):
    """What an override may change for some models; unset fields keep the recipe's value."""

    steps: Annotated[int, Field(ge=1, le=MOST)] | None = None
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    weight_decay: Annotated[float, Field(ge=0, le=1)] | None = None


class Losses(Section):
    """Weights of the training objective; the reduction makes them mean something (see `transvae.losses`)."""

    l1: Annotated[float, Field(ge=0)] = 1.0
    """Weight of mean |x - reconstruction| over C, H, W and the batch (paper, section 3.1: 1.0)."""
    kl: Annotated[float, Field(ge=0)] = 1e-8
    """Weight of KL(posterior || N(0, I)) (paper, section 3.1: 1e-8 under `sum_per_sample`)."""
    reduction: Literal["sum_per_sample", "mean"] = "sum_per_sample"
    """The convention in which the weights are written: VA-VAE's sums per sample, or means per element."""


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
    patience: Annotated[int, Field(ge=0, le=MOST)] = 4
    """Bad steps in a row that are skipped; one more and the trial is taken back (llm-foundry: 4)."""
    rewinds: Annotated[int, Field(ge=0, le=100)] = 2
    """How often a trial goes back to a checkpoint, each time to other data, before it fails (assumption)."""


class Recipe(Section):
    """How every model is trained; `overrides` changes values for models whose name matches a pattern."""

    steps: Annotated[int, Field(ge=1, le=MOST)]
    """Optimiser steps per trial."""
    batch_size: Annotated[int, Field(ge=1, le=MOST)]
    """Global batch size in images, shared by all workers of a trial."""
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    """Peak learning rate of AdamW (paper, appendix D: 1e-4 at batch 256)."""
    warmup_steps: Annotated[int, Field(ge=0)] = 1000
    """Linear warm-up from 0 (paper, appendix D: 1000)."""
    schedule: Literal["constant", "cosine"] = "constant"
    """After the warm-up: constant (paper, appendix D), or cosine to zero at the last step."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.5, 0.9)
    """AdamW betas (VA-VAE's published code: 0.5, 0.9; the paper does not state them)."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """AdamW weight decay (paper, appendix D: none)."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Clip the global gradient norm to this value; none by default (training recipes of VA-VAE)."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the weight average that is evaluated and registered (assumption; warms up over the first steps)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 = autocast to bfloat16 with fp32 weights; losses and posterior stay in fp32."""
    gradient_checkpointing: bool = False
    """Recompute activations block by block in the backward pass: less memory, about a third more compute."""
    losses: Losses = Losses()
    guard: GuardLimits = GuardLimits()
    overrides: dict[str, RecipeValues] = Field(default_factory=dict)
    """Values for some models: a pattern over `family-size` such as `cnn-*` or `transvae-G`, later ones win."""


class Workers(Section):
    """Where a trial runs: it changes how fast a trial is, never what it is."""

    workers: Annotated[int, Field(ge=1)] = 1
    """Ray Train workers (processes) per trial; the global batch is divided among them."""
    device: Literal["cpu", "gpu"] = "cpu"
    """One CPU core, or one GPU, per worker."""


class Resources(Workers):
    """Resources of every trial; `overrides` changes them for models whose name matches a pattern."""

    overrides: dict[str, Workers] = Field(default_factory=dict)
    """Resources for some models: a pattern over `family-size` such as `*-G`, later ones win."""
    max_failures: Annotated[int, Field(ge=0)] = 2
    """How often a failed trial is tried again before it counts as failed."""
    checkpoints: str | None = None
    """Folder or URI (`s3://bucket/folder`) for the trials' checkpoints; default: each trial's own folder in the home.
    One home per place. A trial that moves begins again from its first step."""


class Evaluation(Section):
    """What is measured on the held-out photographs, and how often."""

    every: Annotated[int, Field(ge=1)] = 1000
    """Validate, checkpoint and report every this many steps (reproduction guide: 1000); always at the last step."""
    images: Annotated[int, Field(ge=1, le=MOST)] = 1024
    """Held-out samples per validation (fewer if there are fewer)."""
    pictures: Annotated[int, Field(ge=1, le=64)] = 8
    """Held-out samples shown in the reconstruction pictures."""
    log_every: Annotated[int, Field(ge=1)] = 10
    """Write training losses to the journal every this many steps."""
    keep_checkpoints: Annotated[int, Field(ge=1)] = 2
    """Newest checkpoints kept besides the best ones."""
    keep_best: Annotated[int, Field(ge=1)] = 1
    """Best checkpoints (highest PSNR) kept besides the newest ones."""


class Fits(Section):
    """Which scaling laws the report draws."""

    metric: Literal["val/l1", "val/mse"] = "val/l1"
    """The loss that L(N) = E + A N^-alpha is fitted to."""
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.9
    """Confidence level of every interval."""


class StudySpec(Section):
    """One study: a question, what the answer should be, and everything needed to get it."""

    study: Name
    """The study's name: its folder, its MLflow experiment, its registered models."""
    question: str
    """What the study wants to know."""
    expected: Expected
    grid: Grid
    data: Data
    recipe: Recipe
    resources: Resources = Resources()
    evaluation: Evaluation = Evaluation()
    fits: Fits = Fits()
