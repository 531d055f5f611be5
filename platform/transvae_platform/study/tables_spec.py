"""The tables section of a study file: what is measured of the registered models once all of them are trained.

It decides no result of a trial and may change at any time: the next submission measures what is new.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from transvae_platform.study.section import MOST, Section, Seed

Preset = Literal["vavae", "dcae", "rae", "detok"]
OWN = "study"
"""The study's own images, where data sets are named."""


class Reconstruction(Section):
    """Table 1: PSNR, SSIM, LPIPS and rFID under named protocols."""

    presets: Annotated[tuple[Preset, ...], Field(min_length=1)] = ("vavae",)
    """Protocols (`evaluation/protocols.py`)."""
    data: Annotated[tuple[str, ...], Field(min_length=1)] = (OWN,)
    """Data sets, each evaluated at its own resolution: `study` for the study's own images, a name of `evaluation.sets`,
    or what `transvae data ingest` made, by name, fingerprint, folder or URI."""
    split: Literal["validation", "train"] = "validation"
    """Which images."""
    seed: Seed = 0
    """Of the posterior's samples."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 16
    """Images of up to 256 x 256 per forward pass (assumption: 16 fill a GPU); of larger ones so many fewer."""
    networks: Literal["pretrained", "random"] = "pretrained"
    """Random weights test the line: their metrics are called `lpips_random` and `rfid_random`."""
    files: dict[Literal["vgg", "alex", "inception"], str] = Field(default_factory=dict)
    """Local files of the networks' published weights: LPIPS's trunks and FID's Inception; without one they come from
    the hub, or from its cache."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Reconstruction:
        for key in ("presets", "data"):
            if len(set(getattr(self, key))) != len(getattr(self, key)):
                raise ValueError(f"{key} names one twice: {list(getattr(self, key))}")
        if self.networks == "random" and self.files:
            raise ValueError("files: random networks read none - remove it")
        return self


class ProbeSpec(Section):
    """Table 2a: a linear classifier on the posterior's means of the study's images, which need labels."""

    features: Literal["flatten", "gap"] = "flatten"
    """All values of a latent, or their means over positions."""
    solver: Literal["lbfgs", "sgd"] = "lbfgs"
    """sgd: for sets that do not fit into memory."""
    c: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (0.316,)
    """Inverse regularisation; of several the best on held-back images (CLIP's example)."""
    iterations: Annotated[int, Field(ge=1, le=MOST)] = 1000
    """Of lbfgs, at most (CLIP)."""
    epochs: Annotated[int, Field(ge=1, le=MOST)] = 100
    """Of sgd (the paper's README)."""
    batch_size: Annotated[int, Field(ge=1, le=MOST)] = 1024
    """Of sgd (assumption)."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    """Of sgd, with a cosine to zero (assumption)."""
    augment: Literal["none", "flip"] = "none"
    """Whether sgd sees mirrored images, too."""
    seed: Seed = 0
    """Of the held-back images and the order."""


class DensitySpec(Section):
    """Table 2b: density CV, normalised entropy and Gini of samples of the posterior."""

    images: Annotated[int, Field(ge=2, le=MOST)] = 10_000
    """Random images of a run, one position each (LightningDiT)."""
    runs: Annotated[int, Field(ge=1, le=1000)] = 10
    """Of t-SNE, each with a seed of its own (LightningDiT)."""
    split: Literal["train", "validation"] = "train"
    """Of which images."""


class ManifoldSpec(Section):
    """The off-manifold comparison: directions that latents use, and how far noise leads from them."""

    images: Annotated[int, Field(ge=5, le=100_000)] = 2000
    """Random images of either split, one position each (assumption); ratios compare at equal numbers only."""
    noise: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (0.25, 0.5, 1.0)
    """Added to held-out latents, in deviations of a channel (assumption)."""
    seed: Seed = 0
    """Of images, positions and noise."""


class Tables(Section):
    """What tables 1 and 2 show of a study's registered models."""

    reconstruction: Reconstruction | None = None
    """Table 1, and with it extrapolation over resolutions; none without this section."""
    probe: ProbeSpec | None = None
    """Table 2a, of the study's own images; none without this section."""
    density: DensitySpec | None = None
    """Table 2b, of the study's own images; none without this section."""
    manifold: ManifoldSpec | None = None
    """Of samples of the posterior of the study's own images; none without this section."""

    @model_validator(mode="after")
    def _something_is_asked_for(self) -> Tables:
        if not (self.reconstruction or self.probe or self.density or self.manifold):
            raise ValueError("tables: nothing is asked for - give `reconstruction`, `probe`, `density` or `manifold`")
        return self
