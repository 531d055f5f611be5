"""One cell of a study's grid: what a training worker receives, and what its identity is made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import Field

from transvae_platform.study.data_spec import Sampling
from transvae_platform.study.downstream_spec import Generator
from transvae_platform.study.evaluation_spec import Evaluation
from transvae_platform.study.recipe_spec import TrialRecipe
from transvae_platform.study.section import Section
from transvae_platform.study.workers_spec import Workers

HASH_LENGTH = 10  # hex digits of a trial id: 40 bits, no collision among the trials of any study


ADDED = {"compile": False, "channels_last": True, "semantic": None}
"""Keys that `recipe` has gained, with what it did before them: so set they are no part of a trial's identity, and
studies that were begun before go on."""


class Rank(NamedTuple):
    """Which validation metric says how good a checkpoint is."""

    metric: str
    higher: bool
    """Whether more is better."""

    def order(self, value: float) -> float:
        """Smaller for the better of two values."""
        return -value if self.higher else value


QUALITY = {
    "autoencoder": Rank("val/psnr", higher=True),
    "generator": Rank("val/loss", higher=False),
    "semantic": Rank("val/semantic", higher=False),
    "semantic_random": Rank("val/semantic_random", higher=False),
}
"""What the best checkpoint of a trial is chosen by; of an S-VAE, which has no pixels, by its features."""
PIXELLESS = "s-vae"
"""The family whose latents nothing decodes to an image."""


class Initial(Section):
    """A model that a trial starts from (`recipe.start_from`, of generators `downstream.start_from`)."""

    folder: str
    """As `save_pretrained` wrote it; all nodes see it."""
    weights_sha256: str


@dataclass(frozen=True)
class Made:
    """What a study's trials need that its file only names."""

    data: str
    """Fingerprint of the data set."""
    initial: Mapping[str, Initial]
    sets: Mapping[str, str]
    rates: Mapping[str, float]


class Trial(Section):
    """One cell of a study's grid with every value resolved; what a training worker receives."""

    id: str
    study: str
    family: str
    size: str
    variant: str
    seed: int
    model: str
    """Registry name, e.g. `transvae-micro-T/f4d4`."""
    model_config_values: dict[str, Any]
    """The model's full configuration (`AutoencoderConfig.to_dict()`), variant applied."""
    data_fingerprint: str
    resolution: int
    sampling: Sampling
    recipe: TrialRecipe
    evaluation: Evaluation
    workers: Workers
    max_failures: int
    priority: int = 0
    """Of `resources.priorities`; trials of a higher one start first."""
    initial: Initial | None = None
    checkpoints: str | None = None
    """Where the study's checkpoints lie (`resources.checkpoints`)."""
    frozen: dict[str, str] = Field(default={})
    """Files of the frozen networks' weights (`resources.frozen`)."""
    generator: Generator | None = None
    """What it is trained on, if it trains a generator: then `model` and its configuration (`DiTConfig`) are of that."""

    @property
    def ranked_by(self) -> Rank:
        """What its best checkpoint is chosen by."""
        if self.family == PIXELLESS:
            assert self.recipe.semantic is not None
            return QUALITY["semantic" if self.recipe.semantic.network == "pretrained" else "semantic_random"]
        return QUALITY["generator" if self.generator else "autoencoder"]

    @property
    def cell(self) -> str:
        """The id without its hash: the same before and after the data set is made."""
        return self.id.rpartition("-")[0]

    @property
    def label(self) -> str:
        """The short name people see: `transvae-T`, with the variant where it is not the base."""
        return f"{self.family}-{self.size}" + ("" if self.variant == "base" else f"-{self.variant}")


def stable_hash(values: object) -> str:
    """SHA-256 of the values' canonical JSON: equal for equal values on every machine."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
