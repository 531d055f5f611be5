"""A data section of a study that was looked at, here (`sources.py`) or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transvae_platform.study.data_spec import Data
from transvae_platform.study.section import MOST

if TYPE_CHECKING:
    from transvae_platform.data.listing import Listing
    from transvae_platform.data.sets.catalogue import TrainingData


@dataclass(frozen=True)
class Source:
    """A data section that was looked at."""

    section: Data
    listing: Listing | None
    """What the source holds; None where the data sets are made already by `transvae data ingest`."""
    made: TrainingData | None
    """The data set, if it is made."""
    train: int
    """Training samples; while it is not made, at most."""
    held_out: int
    """Held-out samples or, while it is not made, images."""

    @property
    def fingerprint(self) -> str | None:
        """Of the data set; None while it is not made."""
        return self.made.fingerprint if self.made else None

    @property
    def images(self) -> int | None:
        """Of both splits, about; None where nobody has looked."""
        return self.train + self.held_out if self.train < MOST else None


def assume_source(section: Data) -> Source:
    """A section whose images lie elsewhere: taken to be enough."""
    return Source(section, None, None, train=MOST, held_out=MOST)
