"""The study file as typed, frozen and strict objects; `load.py` reads them from YAML, `grid.py` turns them into trials.

Every field's docstring becomes the description in the JSON schema that editors use.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from transvae_platform.study.data_spec import Data
from transvae_platform.study.downstream_spec import Downstream
from transvae_platform.study.evaluation_spec import Evaluation
from transvae_platform.study.prices_spec import Prices
from transvae_platform.study.rate_rules import Calibration
from transvae_platform.study.recipe_spec import Recipe
from transvae_platform.study.section import Code, Name, Section, Seed
from transvae_platform.study.tables_spec import Tables
from transvae_platform.study.workers_spec import Workers

Family = Literal["transvae", "cnn", "vit", "swin", "s-vae", "ps-vae", "rae"]
Size = Literal["T", "B", "L", "H", "G", "giant_printed"]


class Expected(Section):
    """What the study should show if its source is right: written down before the run."""

    outcome: str
    """The expected result in one or two sentences, with numbers where the source gives them."""
    source: str
    """Where the expectation comes from: paper section, figure or table, or 'assumption'."""


class Grid(Section):
    """families x sizes x seeds x variants; every combination is one trial, but for variants of some models only."""

    families: Annotated[dict[Family, Annotated[tuple[Size, ...], Field(min_length=1)]], Field(min_length=1)]
    """The sizes to train of each family, e.g. `transvae: [T, B, L]`."""
    ladder: Literal["paper", "micro"] = "paper"
    """Which size tables: the paper's (tables 3-6) or the micro ladder for laptop-sized machines."""
    code: Code = "f16d32"
    """Latent code: spatial compression f and channels d, e.g. `f16d32`."""
    codes: dict[Family, Code] = Field(default_factory=dict)
    """Of families whose latents are other ones, e.g. `ps-vae: f16d96`; RAE has as many channels as its network."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    """One trial per seed; a seed sets initial weights, data order, augmentation and latent noise."""
    variants: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)] = Field(default={"base": {}})
    """Named changes: switches of the model, e.g. `no-rope: {position: none}`, and dotted keys of the recipe, e.g.
    `no-vf: {recipe.losses.vf: null}`. `models` (a pattern over `family-size` or a list of them) says which models have
    the variant; by default all do."""

    @model_validator(mode="after")
    def _no_repeats(self) -> Grid:
        for family, sizes in self.families.items():
            if len(set(sizes)) != len(sizes):
                raise ValueError(f"families.{family} names a size twice: {list(sizes)}")
        if strangers := self.codes.keys() - self.families.keys():
            raise ValueError(f"codes: {', '.join(sorted(strangers))} is no family of this grid - remove it")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds names a seed twice: {list(self.seeds)}")
        return self


class Resources(Workers):
    """Resources of every trial; `overrides` changes them for models whose name matches a pattern."""

    overrides: dict[str, Workers] = Field(default_factory=dict)
    """Resources for some models: a pattern over `family-size` such as `*-G`, later ones win."""
    max_failures: Annotated[int, Field(ge=0)] = 2
    """How often a failed trial is tried again before it counts as failed."""
    priorities: dict[str, int] = Field(default_factory=dict)
    """Who starts first: a pattern over `family-size` such as `*-T` with a number, later ones win; 0 by default, higher
    ones first. Within one priority the order is that by which the study ends soonest."""
    budget: Annotated[float, Field(gt=0)] | None = None
    """Device-hours (GPU-hours) that the study may spend: a trial whose estimate does not fit into what is left is not
    started. A larger budget continues the study; trials that run are never stopped for it."""
    checkpoints: str | None = None
    """Folder or URI (`s3://bucket/folder`) for the trials' checkpoints; default: each trial's own folder in the home.
    One home per place. A trial that moves begins again from its first step."""

    prices: Prices = Prices()
    """What devices cost, for the plan's dollars."""
    gpu_memory: Annotated[float, Field(gt=0)] | None = None
    """Of one GPU, in GB (10^9 bytes): a trial that is estimated to need more is refused before it starts. By default
    what the cluster's head declares, or that of this machine's GPUs, where it has any."""
    accelerator: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] | None = None
    """The kind of GPU that all trials run on, by Ray's name (`H100`, `A100`, `L40S`), on a cluster that has several;
    default: any. One for a whole study: hours on different kinds are no measure of the same thing."""
    frozen: dict[Literal["vgg16", "features", "inception", "representation", "text"], str] = Field(default_factory=dict)
    """Local files of the frozen networks' weights, in their published formats: `vgg16` for `losses.lpips`, `features`
    for `losses.vf`, `inception` for `downstream.curve`, `representation` for what `ps-vae` and its like stand on,
    `text` for a T5 of `downstream.text` (a folder); without one they come from the hub, or from its cache."""


class Fits(Section):
    """Which scaling laws the report draws."""

    metric: Literal["val/l1", "val/mse"] = "val/l1"
    """The loss that L(N) = E + A N^-alpha is fitted to."""
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.9
    """Confidence level of every interval."""
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """A family counts as saturated where its last step in size surely gains less than this, relative; fixed before the
    first trial, because a margin chosen afterwards proves nothing."""


class StudySpec(Section):
    """One study: a question, what the answer should be, and everything needed to get it."""

    study: Name
    """The study's name: its folder, its MLflow experiment, its registered models."""
    scale: Name | None = None
    """One of `scales`: which size of the study this is; the study's name ends in it. Usually given on the command line,
    `scale=micro`."""
    scales: dict[Name, dict[str, Any] | None] = Field(default_factory=dict)
    """Other sizes of the same study, by name: what they change, as dotted keys such as `recipe.steps: 400`, on top of
    `scales/<name>.yaml` beside the file. The same question, smaller models and images."""
    question: str
    """What the study wants to know."""
    expected: Expected
    grid: Grid
    data: Data
    recipe: Recipe
    resources: Resources = Resources()
    evaluation: Evaluation = Evaluation()
    fits: Fits = Fits()
    downstream: Downstream | None = None
    """Generators that are trained on the latents of the grid's autoencoders once these are registered."""
    calibration: Calibration | None = None
    """Makes the study a calibration: the grid at several learning rates, of which another study takes the best."""
    tables: Tables | None = None
    """Measure the registered models for tables 1 and 2 once all are trained."""

    @model_validator(mode="after")
    def _calibration_fits(self) -> StudySpec:
        if self.calibration is None:
            return self
        if self.downstream is not None:
            raise ValueError("calibration: a study calibrates or trains generators (`downstream`), not both - split it")
        if set(self.grid.variants) != {"base"} or self.grid.variants["base"]:
            raise ValueError("calibration: a study tries learning rates or grid.variants, not both - split it")
        for step in self.calibration.stop_at:
            if not self.evaluation.due(step) or step >= self.recipe.steps:
                raise ValueError(
                    f"calibration.stop_at: no validation is due at step {step} of {self.recipe.steps} - give multiples "
                    f"of evaluation.every ({self.evaluation.every}) before the end, or add it to evaluation.at"
                )
        return self
