"""The study file as typed, frozen and strict objects; `load.py` reads them from YAML, `grid.py` turns them into trials.

Every field's docstring becomes the description in the JSON schema that editors use.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag, model_validator

Family = Literal["transvae", "cnn", "vit", "swin"]
Size = Literal["T", "B", "L", "H", "G", "giant_printed"]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=60)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]  # what every generator takes, also after mixing in a step
Holdout = Annotated[
    Annotated[float, Field(gt=0, lt=1), Tag("<share>")]
    | Annotated[tuple[str, ...], Field(min_length=1), Tag("<names>")],
    Discriminator(lambda value: "<names>" if isinstance(value, (list, tuple)) else "<share>"),
]

Layout = Literal["auto", "folder", "classes", "imagenet", "coco", "webdataset", "parquet", "huggingface"]
Geometry = Literal["shorter_side", "adm", "shorter_side_bilinear"]

MOST = 10**9
"""Counts above this are typing errors (assumption)."""


class Section(BaseModel):
    """Base of every part of a study file: unknown keys are refused, values cannot change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


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


class CentreView(Section):
    """One sample per photograph: the shorter side resized to the resolution, then the central square."""

    kind: Literal["centre"] = "centre"
    geometry: Geometry = "shorter_side"
    """`shorter_side`: antialiased bicubic; `adm`: ADM's crop (LightningDiT's latents); `shorter_side_bilinear`:
    torchvision's Resize and CenterCrop (VA-VAE's evaluation). Published numbers compare at equal geometry only."""


class CropsView(Section):
    """Many samples per photograph: square crops at random places of the photograph at several scales."""

    kind: Literal["crops"]
    per_photograph: Annotated[int, Field(ge=1, le=100_000)] = 512
    """Crops cut from each photograph."""
    scales: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = (1.0, 0.5, 0.25)
    """The photograph is shrunk by one of these factors (drawn per crop) before the crop is cut."""


class RandomCrop(Section):
    """A random part of every training sample, resized (RandomResizedCrop); keyed by seed, sample and epoch."""

    size: Annotated[int, Field(ge=8, le=4096)]
    """Height and width in pixels of what the model sees; validation takes the central square of this size."""
    scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.08, 1.0)
    """Smallest and largest share of the sample's area."""
    ratio: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (3 / 4, 4 / 3)
    """Smallest and largest width / height."""

    @model_validator(mode="after")
    def _ranges_ascend(self) -> RandomCrop:
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} is a range, the smaller number first: {[high, low]}")
        return self


class Sampling(Section):
    """How training goes through a data set: what is done to a sample, and in which order they come."""

    flip: bool = True
    """Mirror training samples left-right with probability 1/2 (keyed by seed, sample and epoch)."""
    crop: RandomCrop | None = None
    """Cut a random part out of every training sample; none by default."""
    shuffle_window: Annotated[int, Field(ge=1)] | None = None
    """Shuffle within this many shards at a time, so that no more need be at hand (for data larger than the disks);
    by default over the whole data set."""


class Data(Section):
    """Which photographs, how they are cut into samples, and which are held out for validation."""

    source: Literal["bundled", "folder", "dataset", "mixture"]
    """`bundled`: photographs that ship inside scikit-image, scikit-learn and matplotlib; `folder`: your own images;
    `dataset`: a data set that `transvae data ingest` made; `mixture`: several of those."""
    path: str | None = None
    """Of `folder`: where the images lie, relative to the study file, or a URI (s3://, gs://, ...). Of `dataset`: its
    name, its folder or its URI."""
    parts: Annotated[dict[str, Annotated[float, Field(gt=0)]], Field(min_length=2)] | None = None
    """Of `mixture`: each data set (name, folder or URI) with its share of the training samples, in any unit."""
    layout: Layout = "auto"
    """How the images of `folder` are laid out: plain or class folders, ImageNet, COCO, WebDataset tars, Parquet,
    Hugging Face on disk; `auto` looks."""
    resolution: Annotated[int, Field(ge=8, le=4096)]
    """Height and width of a sample in pixels."""
    view: Annotated[CentreView | CropsView, Field(discriminator="kind")] = CentreView()
    """How samples are cut out of a photograph."""
    holdout: Holdout | None = None
    """Whole photographs kept for validation: a share of all, or the names (file stems) of those photographs. By default
    the source's own validation split, or a tenth where it has none."""
    quarantine: Annotated[float, Field(ge=0, lt=1)] = 0.001
    """Largest share of images that may be unreadable (and are left out, by name); one image always may."""
    sampling: Sampling = Sampling()
    cache_bytes: Annotated[int, Field(ge=10**6)] = 50 * 10**9
    """Local disk per node for shards of a data set on an object store (assumption)."""
    seed: Seed = 0
    """Seed of crop places and of the hold-out draw: the same samples for every trial."""

    @model_validator(mode="after")
    def _path_goes_with_source(self) -> Data:
        if (self.source in ("folder", "dataset")) != (self.path is not None):
            raise ValueError("`path` is needed with `source: folder` and `source: dataset`, and with no other")
        if (self.source == "mixture") != (self.parts is not None):
            raise ValueError("`parts` is needed with `source: mixture`, and with no other")
        if self.layout != "auto" and self.source != "folder":
            raise ValueError("`layout` belongs to `source: folder`")
        if self.model_resolution > self.resolution:
            raise ValueError(f"sampling.crop.size is above the samples' resolution of {self.resolution}")
        return self

    @property
    def model_resolution(self) -> int:
        """Height and width in pixels of what the model sees."""
        return self.sampling.crop.size if self.sampling.crop else self.resolution

    def decides_samples(self) -> dict[str, Any]:
        """The settings that decide which samples an ingest makes: the rest may differ between studies of one set."""
        return self.model_dump(mode="json", include={"resolution", "view", "holdout", "seed"})


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
    """Newest checkpoints kept besides the best one."""


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
