"""The evaluation section of a study file: what is measured while a trial trains, and how often."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from transvae_platform.study.data_spec import Data, Sampling
from transvae_platform.study.section import MOST, Name, Section

NO_RESULT = ("keep_best",)
"""Keys of `evaluation` that decide no result: not part of a trial's identity, free to change in a study."""


class Evaluation(Section):
    """What is measured on the held-out photographs, and how often."""

    every: Annotated[int, Field(ge=1)] = 1000
    """Validate, checkpoint and report every this many steps (reproduction guide: 1000); always at the last step."""
    at: tuple[Annotated[int, Field(ge=1, le=MOST)], ...] = ()
    """Steps at which it does so, too: pictures of early training, e.g. `[512, 1500, 6000]`."""
    sets: dict[Name, Data] = Field(default_factory=dict)
    """Other images, possibly of another resolution, that the finished model is measured on once, at its last step: the
    held-out samples of each, by a name that its metrics and pictures bear (`coco-512/psnr`)."""
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

    def due(self, step: int) -> bool:
        """Whether a validation belongs to this step."""
        return step % self.every == 0 or step in self.at

    @model_validator(mode="after")
    def _steps_ascend_and_sets_only_evaluate(self) -> Evaluation:
        if list(self.at) != sorted(set(self.at)):
            raise ValueError(f"at names steps in ascending order, each once: {list(self.at)}")
        for name, other in self.sets.items():
            if name in ("val", "train"):
                raise ValueError(f"sets.{name}: the name of metrics that every trial has - give another one")
            if other.sampling != Sampling():
                raise ValueError(f"sets.{name}.sampling belongs to training, no effect here - remove it")
        return self
